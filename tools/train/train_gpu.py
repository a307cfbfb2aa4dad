"""Trains a demo model on whole pictures or films on one GPU, against the wall clock.

Ends within --seconds whatever the machine does; what is there by then is in --output: weights in
pieces (`assemble.py` makes a folder of them), result.json, sheet.png and train.log. See README.md
for what to look for in the log. Films train their VAE first, in a process of its own. --cpu with
little --capacity and small --stages runs all of it in miniature.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START = time.time()
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # of the forked workers; torch sets its own number
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "8")  # beside the workers

from gpu.clock import Clock, Schedule, SmallBatches, Stage  # noqa: E402
from gpu.judges import Judges  # noqa: E402
from gpu.kinds import KINDS, Kind  # noqa: E402
from gpu.sources import FilmSource, PictureSource, Source, read_prompts  # noqa: E402
from gpu.workers import Workers  # noqa: E402
from tokens import FilmTokens, PictureTokens  # noqa: E402


def add_options(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """The options of one kind, with its defaults."""
    add = parser.add_argument
    add("--model", type=Path, default=kind.model, help="model folder to start from")
    add("--prompts", type=Path, default=kind.prompts, help="held out, one a line")
    add("--output", type=Path, required=True)
    add("--seconds", type=float, default=330.0, help="wall time of all of it")
    add("--stages", type=Stage.parse, nargs="+", help=Stage.__doc__,
        default=[Stage.parse(text) for text in kind.stages])  # fmt: skip
    small = SmallBatches.parse(kind.small)
    add("--small", type=SmallBatches.parse, default=small, help=SmallBatches.__doc__)
    add("--flat", type=float, default=0.4, help="share of training before the rate falls to zero")
    add("--muon-rate", type=float, default=2e-3, help="of the matrices in the blocks")
    add("--rate", type=float, default=1e-3, help="of all other weights, by AdamW")
    add("--dropout", type=float, default=0.1, help="share of empty captions")
    add("--average", type=float, default=0.035, help="time constant of the moving average, as a"
        " share of the training so far")  # fmt: skip
    add("--workers", type=int, default=kind.workers, help="processes that draw")
    add("--slots", type=int, default=kind.slots, help="of shared memory for what they draw")
    add("--judges", type=int, default=kind.judges, help="processes that judge")
    add("--capacity", type=float, default=1.0, help="factor on the size of the banks")
    add("--export-every", type=float, default=kind.export_every, help="seconds")
    add("--judged", type=int, default=kind.judged, help="prompts sampled at every export")
    add("--judged-steps", type=int, default=20)
    add("--final-steps", type=int, default=50, help="of all prompts at the end")
    add("--guidance", type=float, default=3.0)
    add("--attention", choices=[*kind.attention, "any"], help="instead of measuring")
    add("--no-compile", action="store_true")
    add("--cpu", action="store_true", help="also where there is a GPU")
    add("--max-steps", type=int, default=10**9)
    add("--seed", type=int, default=1)
    if kind.name == "picture":
        add("--counts", type=float, nargs="+", default=[0.4, 0.52, 0.08],
            help="shares of scenes with 1, 2, 3 objects")  # fmt: skip
        return
    add("--vae", choices=("train", "keep"), default="train")
    add("--vae-until", type=float, default=78.0, help="seconds after the start")
    add("--vae-batch", type=int, default=6)
    add("--vae-workers", type=int, default=6)
    add(
        "--vae-least-gain",
        type=float,
        default=0.5,
        help="dB, below which the VAE is left as it was",
    )
    add("--vae-folder", type=Path, help=argparse.SUPPRESS)  # these two: between the two processes
    add("--vae-start", type=float, help=argparse.SUPPRESS)


def make_source(kind: Kind, args: argparse.Namespace) -> Source:
    """What the workers draw, without the held-out prompts."""
    held_out = frozenset(read_prompts(args.prompts))
    if kind.name == "picture":
        return PictureSource(PictureTokens(args.model), held_out, tuple(args.counts))
    return FilmSource(FilmTokens(args.model), held_out)


def start_vae_process(args: argparse.Namespace) -> subprocess.Popen | None:
    """The process that trains the films' VAE: this program once more."""
    if args.vae == "keep":
        return None
    own = ["--vae-folder", str(args.vae_folder), "--vae-start", repr(START)]
    return subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], *own], stdin=subprocess.DEVNULL
    )


def train_vae(args: argparse.Namespace, schedule: Schedule) -> None:
    """What the second process does."""
    log = args.output / "train.log"
    clock = Clock(args.vae_until, log, args.vae_start, who="VAE ")
    sides = sorted({max(schedule.batches), *(s for s in schedule.batches if s == 64)})
    source = make_source(KINDS["film"], args)
    workers = Workers(source, sides, args.vae_workers, args.slots, args.seed + 1000)
    from gpu.film_vae_run import run_vae_training
    from gpu.run import Crew, guarded, prepare_torch

    guarded(
        Crew(workers, None),
        clock,
        lambda: run_vae_training(
            args, read_prompts(args.prompts), workers, clock, prepare_torch(args, clock)
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in KINDS.values():
        add_options(kinds.add_parser(kind.name, help=f"the {kind.name} model"), kind)
    args = parser.parse_args()
    kind = KINDS[args.kind]
    schedule = Schedule(tuple(args.stages), args.small, args.flat)
    args.output.mkdir(parents=True, exist_ok=True)
    if kind.name == "film" and args.vae_start is not None:
        train_vae(args, schedule)
    clock = Clock(args.seconds, args.output / "train.log", START)
    judges = Judges(kind.name, args.judges)
    source = make_source(kind, args)
    workers = Workers(source, sorted(schedule.batches), args.workers, args.slots, args.seed)
    vae = None
    if kind.name == "film":
        args.vae_folder = Path(tempfile.mkdtemp(prefix="film-vae-"))
        vae = start_vae_process(args)
    clock.say("workers forked")
    from gpu.run import Crew, Run, guarded

    crew = Crew(workers, judges, vae)
    guarded(crew, clock, lambda: Run(kind, args, schedule, clock, crew).go())


if __name__ == "__main__":
    main()
