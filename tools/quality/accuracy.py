"""What prompt_accuracy.py and motion_accuracy.py share: their options, and the way from prompts to
a table: `tamias generate` for every prompt and profile, verdicts, shares, report.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Medium:
    """What is judged, and the defaults of its options."""

    name: str  # of the option that takes folders, and of the table's first column
    verb: str
    prompts: Path
    model: Path
    sparsity: tuple[str, ...]
    side: int


@dataclass(frozen=True)
class Painter:
    """The command line of `tamias generate`, all but prompt, seed and output."""

    program: Path
    model: Path
    sparsity: str
    side: int
    steps: int
    guidance: float
    dtype: str
    threads: int | None
    max_sequence_length: int | None = 36

    @staticmethod
    def from_arguments(
        args: argparse.Namespace, profile: str, max_sequence_length: int | None
    ) -> Painter:
        """The settings of the command line, with one profile."""
        return Painter(
            program=args.tamias,
            model=args.model,
            sparsity=profile,
            side=args.side,
            steps=args.steps,
            guidance=args.guidance,
            dtype=args.dtype,
            threads=args.threads,
            max_sequence_length=max_sequence_length,
        )

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
            "--dtype": self.dtype,
            "--output": output,
        }
        if self.max_sequence_length is not None:
            arguments["--max-sequence-length"] = self.max_sequence_length
        if self.threads is not None:
            arguments["--threads"] = self.threads
        pairs = [str(part) for pair in arguments.items() for part in pair]
        return [str(self.program), "generate", *pairs, "--quiet"]


def generate_missing(
    prompts: Sequence[str],
    outputs: Sequence[Path],
    command: Callable[[str, int, Path], Sequence[str]],
) -> None:
    """Runs the command of every prompt whose output is not there yet; prompt i takes seed i."""
    for seed, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        output.parent.mkdir(parents=True, exist_ok=True)
        if not output.exists():
            subprocess.run(command(prompt, seed, output), check=True)


def print_table(what: str, summaries: Mapping[str, Mapping[str, float]]) -> None:
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
    summaries: Mapping[str, Mapping[str, float]],
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


def make_parser(
    description: str, medium: Medium
) -> tuple[argparse.ArgumentParser, argparse._ArgumentGroup]:
    """The options of both programs, and the group of those that say how to generate."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    pairs = {"type": name_and_folder, "nargs": "+", "default": [], "metavar": "NAME=FOLDER"}
    add("--prompts", type=Path, default=medium.prompts)
    add("--limit", type=int, help="only the first so many prompts")
    add(f"--{medium.name}", dest="folders", **pairs)
    add("--json", type=Path, help="write the shares and every verdict")
    generation = parser.add_argument_group(f"{medium.verb}ing with tamias")
    add = generation.add_argument
    profiles = f"profiles to {medium.verb} with"
    add("--tamias", type=lambda text: Path(text).resolve(), help="the program")
    add("--model", type=Path, default=medium.model)
    add("--sparsity", nargs="+", default=list(medium.sparsity), help=profiles)
    add("--output", type=Path, help=f"folder for the {medium.name}, one subfolder per profile")
    add("--side", type=int, default=medium.side)
    add("--steps", type=int, default=50)
    add("--guidance", type=float, default=3.0)
    add("--dtype", default="auto", help="of the activations: auto, f32 or bf16")
    add("--threads", type=int)
    return parser, generation


def parse_arguments(parser: argparse.ArgumentParser, medium: Medium) -> argparse.Namespace:
    """The command line; ends the program when there is nothing to judge."""
    args = parser.parse_args()
    if not args.folders and not args.tamias:
        parser.error(f"nothing to judge: give --{medium.name} or --tamias")
    if args.tamias and not args.output:
        parser.error("--tamias needs --output")
    return args


def measure(
    args: argparse.Namespace,
    medium: Medium,
    generate: Callable[[argparse.Namespace, str, Sequence[str], Path], None],
    judge_folder: Callable[[Path, Sequence[str]], Sequence],
    summarise: Callable[[Sequence], Mapping[str, float]],
) -> None:
    """Generates with every profile if asked to, judges all folders, prints and writes shares."""
    prompts = args.prompts.read_text(encoding="utf-8").splitlines()[: args.limit]
    folders = dict(args.folders)
    for profile in args.sparsity if args.tamias else ():
        folder = args.output / Path(profile).stem
        folders[folder.name] = folder
        generate(args, profile, prompts, folder)
    verdicts = {name: judge_folder(folder, prompts) for name, folder in folders.items()}
    summaries = {name: summarise(list_) for name, list_ in verdicts.items()}
    print_table(medium.name, summaries)
    if args.json:
        write_report(args.json, prompts, verdicts, summaries)
