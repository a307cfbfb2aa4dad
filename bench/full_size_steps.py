#!/usr/bin/env python3
"""Steps of published models on this CPU, from models of their width with few blocks, projected to whole generations.

Transformers of FLUX.1-dev and Wan 2.1 1.3B in full width, with random bf16 weights and one to three blocks, make
some steps of each kind (dense, choosing columns, sparse, skipped) through the command line, with all blocks sparse. The
time of a step follows from the published number of blocks, of which the first are dense as the profile says, that of
a generation from the profile's schedule. What is printed as a step or a generation is a projection.

    python bench/full_size_steps.py --models flux --dtype f32 bf16 --output out/full_size_steps.json

Needs numpy, 3 GB in the temporary folder and some minutes for each model and type.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools/gpu"))
from films import DENSE_STEPS, MEASURED, SMALL_DECODER, STEPS, projected  # noqa: E402
from follow import follow, medians  # noqa: E402
from random_models import JointGeometry, Model, WanGeometry, flux, make, wan  # noqa: E402

ALL_SPARSE = ("--set", "attn.first_n_dense_layers=0", "--set", "mlp.first_n_dense_layers=0")


@dataclass(frozen=True)
class Published:
    """A published model: its blocks by kind, and one of its width with so many of each instead."""

    name: str
    blocks: tuple[int, ...]
    with_blocks: Callable[..., Model]
    profile: str
    options: tuple[str, ...]  # of a generation of published size
    small: tuple[str, ...]  # of one that only tells its schedule: a picture
    output: str = "picture.png"  # of the former
    dense_blocks: int = 2  # the profile's first_n_dense_layers


def flux_of(double: int, single: int) -> Model:
    return flux(JointGeometry(double, single, heads=24, head_dim=128))


def wan_of(blocks: int) -> Model:
    return wan(WanGeometry(blocks, heads=12, head_dim=128, mlp=8960), SMALL_DECODER)


MODELS = {
    "flux": Published(
        "FLUX.1-dev, 1024x1024",
        (19, 38),
        flux_of,
        "flux-1-dev",
        ("--width=512", "--height=512", "--max-sequence-length=512"),  # whose tokens are 8x8 pixels here
        ("--width=64", "--height=64", "--max-sequence-length=16"),
    ),
    "wan": Published(
        "Wan 2.1 1.3B, 832x480, 81 frames",
        (30,),
        wan_of,
        "wan-2.1",
        ("--width=832", "--height=480", "--frames=81", "--max-sequence-length=512", "--true-cfg-scale=5"),
        ("--width=64", "--height=64", "--frames=1", "--max-sequence-length=16", "--true-cfg-scale=5"),
        "film.mp4",
    ),
}


class Steps:
    """Seconds of steps, and schedules, through the program."""

    def __init__(self, program: Path, dtype: str, folder: Path) -> None:
        self.program, self.dtype, self.folder = program, dtype, folder
        self.log = folder / "log"

    def command(self, model: Path, sparsity: str, output: str, *options) -> list:
        return [
            *(self.program, "generate", "--model", model, "--prompt", "a star " * 200, "--dtype", self.dtype),
            *("--sparsity", sparsity, "--output", self.folder / output, *options),
        ]

    def seconds(self, model: Path, sparsity: str, output: str, *options) -> tuple[dict[str, float], float]:
        """Medians of each kind from the second step on, and the first step."""
        command = self.command(model, sparsity, output, *options)
        done = follow(command, "denoise", self.log, None, 3600, lambda: None)
        if not done.is_complete:
            sys.exit(f"full_size_steps.py: a generation ended early: {self.log.read_text()[-500:]}")
        return medians(done, first=1), done.seconds[0]

    def of_model(self, published: Published, blocks: tuple[int, ...]) -> dict[str, float]:
        """Of a model with so many blocks: each kind, and "first" for the first full step."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            make(Path(name), published.with_blocks(*blocks))
            dense_options = [*published.options, "--steps", DENSE_STEPS]
            dense, _ = self.seconds(Path(name), "off", published.output, *dense_options)
            options = [*published.options, *MEASURED, *ALL_SPARSE]
            sparse, first = self.seconds(Path(name), published.profile, published.output, *options)
        (step,) = dense.values()
        return {"dense": step, "first": first, **sparse}

    def schedule(self, published: Published) -> Counter:
        """How often each kind of step is in the profile's whole schedule."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            make(Path(name), published.with_blocks(*(1 for _ in published.blocks)))
            report = self.folder / "report.json"
            options = [*published.small, "--steps", STEPS, "--quiet", "--report", report]
            command = self.command(Path(name), published.profile, "picture.png", *options)
            subprocess.run([*map(str, command)], check=True, cwd=ROOT, capture_output=True)
        return Counter(step["kind"] for step in json.loads(report.read_text())["steps"])


def extrapolated(runs: dict[tuple[int, ...], dict], published: Published) -> dict[str, float]:
    """Seconds of a step with all blocks, from runs of few: a block's are the least squares' of all of them.

    What is no block (embeddings, the last layer) makes less than a hundredth of a block's products and counts as
    none: told apart by differences, it would be their noise times the number of blocks.
    """
    counts = np.array(list(runs))
    whole, dense = {}, 0.0
    for kind in next(iter(runs.values())):
        blocks = np.linalg.lstsq(counts, [of[kind] for of in runs.values()], rcond=None)[0]
        if kind == "dense":
            dense = blocks[0]
        whole[kind] = float(blocks @ published.blocks)
        if kind in ("first", "full", "sparse"):
            whole[kind] += float(published.dense_blocks * (dense - blocks[0]))
    return whole


def measure(steps: Steps, published: Published) -> dict:
    kinds = range(len(published.blocks))
    counts = [tuple(1 for _ in kinds), *(tuple(1 + (i == more) for i in kinds) for more in kinds)]
    runs = {blocks: steps.of_model(published, blocks) for blocks in counts}
    whole = extrapolated(runs, published)
    schedule = steps.schedule(published)
    generations = {
        "dense": STEPS * whole["dense"],
        "accelerated": projected(whole, whole["first"], schedule),
    }
    return {
        "name": published.name,
        "dtype": steps.dtype,
        "measured": [{"blocks": blocks, "seconds": seconds} for blocks, seconds in runs.items()],
        "projected_step": whole,
        "schedule": dict(schedule),
        "projected_generation": generations,
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtype", nargs="+", choices=("f32", "bf16"), default=["f32", "bf16"])
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/tamias")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    results = []
    for name in arguments.models:
        for dtype in arguments.dtype:
            with tempfile.TemporaryDirectory(prefix="tamias-steps-") as folder:
                results.append(measure(Steps(arguments.program, dtype, Path(folder)), MODELS[name]))
    print("projected seconds of a step and of 50 steps\n")
    print("| model | dtype | dense | choosing | sparse | 50 dense | 50 accelerated | speed-up |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for result in results:
        step, whole = result["projected_step"], result["projected_generation"]
        print(
            f"| {result['name']} | {result['dtype']} | {step['dense']:.1f} | {step['full']:.1f} "
            f"| {step['sparse']:.1f} | {whole['dense']:.0f} | {whole['accelerated']:.0f} "
            f"| {whole['dense'] / whole['accelerated']:.2f}x |"
        )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
