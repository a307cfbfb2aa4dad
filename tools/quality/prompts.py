"""Writes the held-out prompts by which the demo model is judged: prompts.txt.

Drawn from the same grammar as the training captions with a seed of their own. A caption is kept
when the detector reads four renderings of it without a fault, so that a fault in a generated picture
is the model's: what is left out is mostly paint that looks like its background, such as black marble
on grey marble. Training draws its scenes from about 10^9 captions of one and two objects; a two-object
prompt of this list has almost surely not been trained on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from detect import judge

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from scenes import Scene, caption, render, sample_scene  # noqa: E402

SEED = 20_240_901
COUNT_PROBABILITIES = (0.5, 0.5)  # shares of one and two objects
RENDERINGS = 4


def is_readable(scene: Scene, rng: np.random.Generator) -> bool:
    """Whether the detector finds every object in several renderings of the scene."""
    text = caption(scene)
    return all(judge(render(scene, 256, rng), text).right for _ in range(RENDERINGS))


def held_out_prompts(count: int, seed: int = SEED) -> list[str]:
    """`count` different readable captions."""
    rng = np.random.default_rng(seed)
    prompts: list[str] = []
    while len(prompts) < count:
        scene = sample_scene(rng, COUNT_PROBABILITIES)
        if caption(scene) not in prompts and is_readable(scene, rng):
            prompts.append(caption(scene))
    return prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).with_name("prompts.txt")
    parser.add_argument("--output", type=Path, default=default)
    parser.add_argument("--count", type=int, default=64)
    args = parser.parse_args()
    args.output.write_text("\n".join(held_out_prompts(args.count)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
