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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accuracy import Medium, Painter, generate_missing, make_parser, measure, parse_arguments
from detect_motion import FilmVerdict, judge_film, load_film

ATTRIBUTES = ("found", "color", "shape", "place", "motion", "alone", "right")
FILMS = Medium(
    name="films",
    verb="film",
    prompts=Path(__file__).with_name("motion_prompts.txt"),
    model=Path("models/demo-video"),
    sparsity=("off",),
    side=128,
)


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


def film(args: argparse.Namespace, profile: str, prompts: Sequence[str], folder: Path) -> None:
    """Films every prompt that has no film yet."""
    painter = Painter.from_arguments(args, profile, max_sequence_length=None)
    filmer = Filmer(painter, args.frames, args.fps)
    outputs = [folder / f"{i:02d}.mp4" for i in range(len(prompts))]
    generate_missing(prompts, outputs, lambda p, s, o: filmer.command(p, s, o.with_suffix("")))


def judge_folder(folder: Path, prompts: Sequence[str]) -> list[FilmVerdict]:
    """A verdict for every prompt; FileNotFoundError when a film is missing."""
    return [judge_film(load_film(folder / f"{i:02d}"), p) for i, p in enumerate(prompts)]


def summarise(verdicts: Sequence[FilmVerdict]) -> dict[str, float]:
    """Shares over all films."""
    return {a: sum(getattr(v, a) for v in verdicts) / len(verdicts) for a in ATTRIBUTES}


def main() -> None:
    parser, generation = make_parser(__doc__, FILMS)
    generation.add_argument("--frames", type=int, default=33)
    generation.add_argument("--fps", type=int, default=16)
    measure(parse_arguments(parser, FILMS), FILMS, film, judge_folder, summarise)


if __name__ == "__main__":
    main()
