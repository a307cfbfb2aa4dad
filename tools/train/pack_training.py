"""Packs a training run for a GPU machine that has PyTorch but neither this project nor a network.

The archive holds tools/train, tools/quality and the model folder to start from, under their paths
here. There, with torch, numpy, pillow, safetensors and tokenizers:

    mkdir run && tar xzf FILE -C run
    python3 run/tools/train/train_gpu.py film --seconds 330 --output results

Here again: assemble.py results models/demo-video NEW_FOLDER
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

from gpu.kinds import KINDS, ROOT

TOOLS = ("tools/train", "tools/quality")


def members(kind: str) -> list[Path]:
    """The files that go along, relative to the project: code, prompts, and the whole model."""
    found = [p for tool in TOOLS for p in (ROOT / tool).rglob("*") if p.suffix in (".py", ".txt")]
    found += [p for p in KINDS[kind].model.rglob("*") if p.is_file()]
    return sorted(p.relative_to(ROOT) for p in found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("file", type=Path, metavar="FILE.tar.gz")
    args = parser.parse_args()
    args.file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(args.file, "w:gz") as archive:
        for path in members(args.kind):
            archive.add(ROOT / path, arcname=path.as_posix())
    print(f"{args.file}: {args.file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
