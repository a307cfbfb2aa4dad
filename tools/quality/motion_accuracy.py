"""How well generated films follow their prompts, by the detector of detect_motion.py.

Judges folders of films that are there already (00/*.png, 01/*.png, ... in the order of the prompts,
the frames of a film in the order of their names):

    motion_accuracy.py --films dense=out/dense sparse=out/sparse

or makes them with the `tamias` program first, once for each profile:

    motion_accuracy.py --tamias build/release/tamias --model models/demo-video \\
        --sparsity off demo-video --output out/motion

Prints a table, shares of all prompts: object found at all, right colour, right shape, right place,
right motion, alone, all of these right. --json writes every verdict, too.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detect_motion import FilmVerdict, judge_film, load_film
from prompt_accuracy import Painter, name_and_folder, print_table, write_report

ATTRIBUTES = ("found", "color", "shape", "place", "motion", "alone", "right")


@dataclass(frozen=True)
class Filmer:
    """The command line of `tamias generate` for films."""

    painter: Painter
    frames: int
    fps: int

    def command(self, prompt: str, seed: int, folder: Path) -> list[str]:
        """The command that films one prompt into folder.mp4 and folder/*.png."""
        command = self.painter.command(prompt, seed, folder.with_suffix(".mp4"))
        film = ["--frames", self.frames, "--fps", self.fps, "--frames-dir", folder]
        return [*command, *map(str, film)]

    def make(self, prompts: Sequence[str], folder: Path) -> None:
        """Films every prompt that has no film yet; prompt i takes seed i."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, prompt in enumerate(prompts):
            output = folder / f"{index:02d}"
            if not output.with_suffix(".mp4").exists():
                subprocess.run(self.command(prompt, index, output), check=True)


def judge_folder(folder: Path, prompts: Sequence[str]) -> list[FilmVerdict]:
    """A verdict for every prompt; FileNotFoundError when a film is missing."""
    return [judge_film(load_film(folder / f"{i:02d}"), p) for i, p in enumerate(prompts)]


def summarise(verdicts: Sequence[FilmVerdict]) -> dict[str, float]:
    """Shares over all films."""
    return {a: sum(getattr(v, a) for v in verdicts) / len(verdicts) for a in ATTRIBUTES}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--prompts", type=Path, default=Path(__file__).with_name("motion_prompts.txt"))
    add("--limit", type=int, help="only the first so many prompts")
    add("--films", type=name_and_folder, nargs="+", default=[], metavar="NAME=FOLDER")
    add("--json", type=Path, help="write the shares and every verdict")
    make = parser.add_argument_group("filming with tamias")
    add = make.add_argument
    add("--tamias", type=Path, help="the program")
    add("--model", type=Path, default=Path("models/demo-video"))
    add("--sparsity", nargs="+", default=["off"], help="profiles to film with")
    add("--output", type=Path, help="folder for the films, one subfolder per profile")
    add("--side", type=int, default=128)
    add("--frames", type=int, default=33)
    add("--fps", type=int, default=16)
    add("--steps", type=int, default=50)
    add("--guidance", type=float, default=3.0)
    add("--threads", type=int)
    args = parser.parse_args()
    if not args.films and not args.tamias:
        parser.error("nothing to judge: give --films or --tamias")
    if args.tamias and not args.output:
        parser.error("--tamias needs --output")
    return args


def main() -> None:
    args = parse_arguments()
    prompts = args.prompts.read_text(encoding="utf-8").splitlines()[: args.limit]
    folders = dict(args.films)
    for profile in args.sparsity if args.tamias else ():
        painter = Painter(
            program=args.tamias,
            model=args.model,
            sparsity=profile,
            side=args.side,
            steps=args.steps,
            guidance=args.guidance,
            threads=args.threads,
            max_sequence_length=None,
        )
        folder = args.output / Path(profile).stem
        folders[Path(profile).stem] = folder
        Filmer(painter, args.frames, args.fps).make(prompts, folder)
    verdicts = {name: judge_folder(folder, prompts) for name, folder in folders.items()}
    summaries = {name: summarise(list_) for name, list_ in verdicts.items()}
    print_table("films", summaries)
    if args.json:
        write_report(args.json, prompts, verdicts, summaries)


if __name__ == "__main__":
    main()
