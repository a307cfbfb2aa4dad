"""Trains the demo's HunyuanVideo transformer with its Llama and CLIP encoders on windows of clips.

Reads a model folder and one of encoded clips (clip_bank.py), trains one stage by rectified flow,
and keeps everything that is needed to go on in --state. Stages are runs of this script with the
same --state, see README.md. `export.py` writes the moving average of the weights into a model
folder.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from clip_bank import ClipBank
from token_windows import WindowShape, stand_in_bias
from trainer import Trainer, make_parser, recipe_fields

HELD_OUT = Path(__file__).parents[1] / "quality" / "motion_prompts.txt"


@dataclass
class ClipRecipe:
    """One kind of training sample, written SIDE:FRAMES:WINDOW:SCATTERED:BATCH[:WEIGHT].

    Side of the clip in pixels, frames and side of the window in tokens, scattered tokens, batch, and
    how often the recipe is chosen against the others of the stage.
    """

    clip_side: int
    window: WindowShape
    batch: int
    weight: float = 1.0

    @staticmethod
    def parse(text: str) -> ClipRecipe:
        (clip_side, frames, side, scattered, batch), weight = recipe_fields(
            text, "SIDE:FRAMES:WINDOW:SCATTERED:BATCH"
        )
        return ClipRecipe(clip_side, WindowShape(side, scattered, frames), batch, weight)


class VideoTrainer(Trainer):
    """One step on windows of clips."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__("film", args)
        torch.manual_seed(args.seed + self.step)  # a resumed stage draws other noise
        held_out = frozenset(args.held_out.read_text(encoding="utf-8").splitlines())
        self.bank = ClipBank(args.bank, args.seed + self.step, held_out)

    def train_step(self, choice: int, done: int, rate: float) -> float:
        if done % self.args.read_every == 0:
            self.bank.take_up_new_files()
        recipe = self.args.recipe[choice]
        clean, places, captions = self.bank.draw(recipe.batch, recipe.clip_side, recipe.window)
        bias = stand_in_bias(recipe.window, math.prod(self.bank.grid(recipe.clip_side)))
        shift = self.model.flow_shift(recipe.clip_side)
        return self.update(self.loss(clean, places, captions, shift, bias), rate)


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, ClipRecipe.__doc__, ClipRecipe.parse)
    add = parser.add_argument
    add("--bank", type=Path, required=True, help="folder of clip_bank.py")
    add("--held-out", type=Path, default=HELD_OUT, help="captions that are not trained on")
    add("--read-every", type=int, default=100, help="steps between looks for new clips")
    return parser.parse_args()


def main() -> None:
    VideoTrainer(parse_arguments()).run_stage()


if __name__ == "__main__":
    main()
