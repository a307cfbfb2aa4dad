#!/usr/bin/env python3
"""One picture of several comparisons: the dense results above the accelerated ones.

    build/release/tamias compare --model models/demo-flux --prompt "..." --output out/a
    build/release/tamias compare --model models/demo-flux --prompt "..." --output out/b
    python tools/plots/pair_sheet.py out/a out/b --output docs/images/side-by-side.png

Reads dense.png and accelerated.png of each folder. Needs pillow.
"""

import argparse
from pathlib import Path

from PIL import Image

GAP = 6  # pixels between pictures


def pair_sheet(folders: list[Path], side: int) -> Image.Image:
    """Columns are folders, rows dense and accelerated, each picture `side` pixels wide and high."""
    count = len(folders)
    sheet = Image.new("RGB", (count * side + (count - 1) * GAP, 2 * side + GAP), "white")
    for column, folder in enumerate(folders):
        for row, name in enumerate(("dense.png", "accelerated.png")):
            with Image.open(folder / name) as picture:
                small = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (column * (side + GAP), row * (side + GAP)))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="output folders of tamias compare")
    parser.add_argument("--side", type=int, default=256, help="of a picture, in pixels")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    pair_sheet(arguments.folders, arguments.side).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
