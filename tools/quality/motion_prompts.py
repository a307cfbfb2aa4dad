"""Writes the held-out prompts by which the video demo is judged: motion_prompts.txt.

Drawn from the grammar of the training captions with a seed of their own, each motion about as often
as the others; kept when the detector reads two renderings without a fault. Training draws from the
same 9,000 captions, so a prompt may have been among them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from detect_motion import judge_film

from clips import MOTIONS, caption, frame_times, render, sample_clip

SEED = 20_240_902


def held_out_prompts(count: int, seed: int = SEED) -> list[str]:
    """`count` different readable captions, the motions by turns."""
    rng = np.random.default_rng(seed)
    prompts: list[str] = []
    while len(prompts) < count:
        clip = sample_clip(rng)
        text = caption(clip)
        if clip.motion != MOTIONS[len(prompts) % len(MOTIONS)] or text in prompts:
            continue
        films = [render(clip, 128, frame_times(17), rng) for _ in range(2)]
        if all(judge_film(film, text).right for film in films):
            prompts.append(text)
    return prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).with_name("motion_prompts.txt")
    parser.add_argument("--output", type=Path, default=default)
    parser.add_argument("--count", type=int, default=32)
    args = parser.parse_args()
    args.output.write_text("\n".join(held_out_prompts(args.count)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
