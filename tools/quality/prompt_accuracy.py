"""How well generated pictures follow their prompts, by the detector of detect.py.

Judges folders of pictures that are there already (00.png, 01.png, ... in the order of the prompts):

    prompt_accuracy.py --pictures dense=out/dense sparse=out/sparse

or paints them with the `tamias` program first, once for each profile:

    prompt_accuracy.py --tamias build/release/tamias --model models/demo-flux \\
        --sparsity off demo --output out/accuracy --limit 16

Prints a table, shares of all objects: found at all, right colour, right place, right shape, all
three right; and the share of prompts that are right as a whole, with no object too many. --json
writes the same with every verdict.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from accuracy import Medium, Painter, generate_missing, make_parser, measure, parse_arguments
from detect import PictureVerdict, judge

ATTRIBUTES = ("found", "color", "place", "shape", "size", "right")
PICTURES = Medium(
    name="pictures",
    verb="paint",
    prompts=Path(__file__).with_name("prompts.txt"),
    model=Path("models/demo-flux"),
    sparsity=("off", "demo"),
    side=512,
)


def picture_of(folder: Path, index: int) -> Path:
    """Where the picture of a prompt lies."""
    return folder / f"{index:02d}.png"


def paint(args: argparse.Namespace, profile: str, prompts: Sequence[str], folder: Path) -> None:
    """Paints every prompt that has no picture yet."""
    painter = Painter.from_arguments(args, profile, max_sequence_length=36)
    outputs = [picture_of(folder, i) for i in range(len(prompts))]
    generate_missing(prompts, outputs, painter.command)


def judge_folder(folder: Path, prompts: Sequence[str]) -> list[PictureVerdict]:
    """A verdict for every prompt; FileNotFoundError when a picture is missing."""
    return [judge(picture_of(folder, i), prompt) for i, prompt in enumerate(prompts)]


def summarise(verdicts: Sequence[PictureVerdict]) -> dict[str, float]:
    """Shares over all objects, and of prompts that are right as a whole."""
    objects = [o for verdict in verdicts for o in verdict.objects]
    shares = {a: sum(getattr(o, a) for o in objects) / len(objects) for a in ATTRIBUTES}
    shares["no_extra_object"] = sum(v.extra_objects == 0 for v in verdicts) / len(verdicts)
    shares["prompt_right"] = sum(v.right for v in verdicts) / len(verdicts)
    return shares


def main() -> None:
    parser, _ = make_parser(__doc__, PICTURES)
    measure(parse_arguments(parser, PICTURES), PICTURES, paint, judge_folder, summarise)


if __name__ == "__main__":
    main()
