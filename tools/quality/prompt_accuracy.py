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
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detect import PictureVerdict, judge

ATTRIBUTES = ("found", "color", "place", "shape", "size", "right")


@dataclass(frozen=True)
class Painter:
    """The command line of `tamias generate`, all but prompt, seed and output."""

    program: Path
    model: Path
    sparsity: str
    side: int
    steps: int
    guidance: float
    threads: int | None
    max_sequence_length: int | None = 36

    def command(self, prompt: str, seed: int, output: Path) -> list[str]:
        """The command that paints one prompt."""
        arguments = {
            "--model": self.model,
            "--prompt": prompt,
            "--negative-prompt": "",
            "--true-cfg-scale": self.guidance,
            "--width": self.side,
            "--height": self.side,
            "--steps": self.steps,
            "--seed": seed,
            "--sparsity": self.sparsity,
            "--output": output,
        }
        if self.max_sequence_length is not None:
            arguments["--max-sequence-length"] = self.max_sequence_length
        if self.threads is not None:
            arguments["--threads"] = self.threads
        pairs = [str(part) for pair in arguments.items() for part in pair]
        return [str(self.program), "generate", *pairs, "--quiet"]

    def paint(self, prompts: Sequence[str], folder: Path) -> None:
        """Paints every prompt that has no picture yet; prompt i takes seed i."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, prompt in enumerate(prompts):
            output = folder / f"{index:02d}.png"
            if not output.exists():
                subprocess.run(self.command(prompt, index, output), check=True)


def judge_folder(folder: Path, prompts: Sequence[str]) -> list[PictureVerdict]:
    """A verdict for every prompt; FileNotFoundError when a picture is missing."""
    return [judge(folder / f"{i:02d}.png", prompt) for i, prompt in enumerate(prompts)]


def summarise(verdicts: Sequence[PictureVerdict]) -> dict[str, float]:
    """Shares over all objects, and of prompts that are right as a whole."""
    objects = [o for verdict in verdicts for o in verdict.objects]
    shares = {a: sum(getattr(o, a) for o in objects) / len(objects) for a in ATTRIBUTES}
    shares["no_extra_object"] = sum(v.extra_objects == 0 for v in verdicts) / len(verdicts)
    shares["prompt_right"] = sum(v.right for v in verdicts) / len(verdicts)
    return shares


def print_table(what: str, summaries: dict[str, dict[str, float]]) -> None:
    """One row per folder or profile, in per cent."""
    columns = list(next(iter(summaries.values())))
    print(f"| {what} | " + " | ".join(c.replace("_", " ") for c in columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name, shares in summaries.items():
        print(f"| {name} | " + " | ".join(f"{100 * shares[c]:.1f} %" for c in columns) + " |")


def write_report(
    path: Path,
    prompts: Sequence[str],
    verdicts: Mapping[str, Sequence],
    summaries: Mapping[str, dict[str, float]],
) -> None:
    """The shares and every verdict as JSON."""
    details = {
        name: {
            "shares": summaries[name],
            "prompts": [{"prompt": p, **v.as_json()} for p, v in zip(prompts, list_, strict=True)],
        }
        for name, list_ in verdicts.items()
    }
    path.write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")


def name_and_folder(text: str) -> tuple[str, Path]:
    """Reads NAME=FOLDER."""
    name, separator, folder = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, Path(folder)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--prompts", type=Path, default=Path(__file__).with_name("prompts.txt"))
    add("--limit", type=int, help="only the first so many prompts")
    add("--pictures", type=name_and_folder, nargs="+", default=[], metavar="NAME=FOLDER")
    add("--json", type=Path, help="write the shares and every verdict")
    paint = parser.add_argument_group("painting with tamias")
    add = paint.add_argument
    add("--tamias", type=Path, help="the program")
    add("--model", type=Path, default=Path("models/demo-flux"))
    add("--sparsity", nargs="+", default=["off", "demo"], help="profiles to paint with")
    add("--output", type=Path, help="folder for the pictures, one subfolder per profile")
    add("--side", type=int, default=512)
    add("--steps", type=int, default=50)
    add("--guidance", type=float, default=3.0)
    add("--threads", type=int)
    args = parser.parse_args()
    if not args.pictures and not args.tamias:
        parser.error("nothing to judge: give --pictures or --tamias")
    if args.tamias and not args.output:
        parser.error("--tamias needs --output")
    return args


def main() -> None:
    args = parse_arguments()
    prompts = args.prompts.read_text(encoding="utf-8").splitlines()[: args.limit]
    folders = dict(args.pictures)
    for profile in args.sparsity if args.tamias else ():
        painter = Painter(
            program=args.tamias,
            model=args.model,
            sparsity=profile,
            side=args.side,
            steps=args.steps,
            guidance=args.guidance,
            threads=args.threads,
        )
        folders[Path(profile).stem] = args.output / Path(profile).stem
        painter.paint(prompts, folders[Path(profile).stem])
    verdicts = {name: judge_folder(folder, prompts) for name, folder in folders.items()}
    summaries = {name: summarise(list_) for name, list_ in verdicts.items()}
    print_table("pictures", summaries)
    if args.json:
        write_report(args.json, prompts, verdicts, summaries)


if __name__ == "__main__":
    main()
