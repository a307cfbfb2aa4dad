#!/usr/bin/env bash
# Installs a build of Tamias into a fresh folder and builds and runs the consumer against it:
# run.sh BUILD_DIR MODEL_DIR
set -euo pipefail
build=$1
model=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" >/dev/null
cmake -S "$here" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/build" >/dev/null
"$work/build/consumer" "$model" "$work/film.mp4"
[[ -s $work/film.mp4 ]]
# The installed command line finds the installed profiles by itself.
(cd "$work" && env -u TAMIAS_CONFIGS "$work/prefix/bin/tamias" inspect --model "$model" >/dev/null)
