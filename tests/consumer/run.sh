#!/usr/bin/env bash
# Installs a build of Tamias into a fresh folder, builds the consumer and the examples against it and runs the consumer:
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
cmake -S "$here/../../examples" -B "$work/examples" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/examples" >/dev/null
# Each public header compiles alone, with nothing but the standard library.
find "$work/prefix/include/tamias" -name '*.h' -print0 |
  xargs -0 -P 2 -I HEADER c++ -std=c++20 -fsyntax-only -Wall -Wextra -Werror -I "$work/prefix/include" -include HEADER -x c++ /dev/null
"$work/build/consumer" "$model" "$work/film.mp4"
[[ -s $work/film.mp4 ]]
# The installed command line finds the installed profiles by itself, and no others: those of the source tree may
# belong to another version.
inspect() { (cd "$work" && env -u TAMIAS_CONFIGS "$work/prefix/bin/tamias" inspect --model "$model" --sparsity "$1"); }
inspect demo >/dev/null
rm "$work/prefix/share/tamias/configs/mochi.yml"
error=$(inspect mochi 2>&1 >/dev/null) && { echo "the installed program reads the source tree's profiles"; exit 1; }
grep -q "sparsity profile 'mochi': not found" <<<"$error" || { echo "$error"; exit 1; }
