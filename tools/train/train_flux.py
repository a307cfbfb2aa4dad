"""Trains the demo's FLUX transformer with its T5 and CLIP text encoders on windows of pictures.

Reads a model folder, trains one stage by rectified flow, and keeps everything that is needed to go
on in --state. Stages are runs of this script with the same --state, see README.md. `export.py`
writes the moving average of the weights into a model folder.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from latent_bank import LatentBank
from picture_vae import PictureVae
from token_windows import WindowShape, stand_in_bias
from trainer import Trainer, make_parser, recipe_fields


@dataclass
class Recipe:
    """One kind of training sample, written SIDE:WINDOW:SCATTERED:BATCH[:WEIGHT].

    Picture side in pixels, window side in tokens, scattered tokens, batch, and how often the recipe
    is chosen against the others of the stage.
    """

    picture_side: int
    window: WindowShape
    batch: int
    weight: float = 1.0

    @staticmethod
    def parse(text: str) -> Recipe:
        (side, window, scattered, batch), weight = recipe_fields(
            text, "SIDE:WINDOW:SCATTERED:BATCH"
        )
        return Recipe(side, WindowShape(window, scattered), batch, weight)


class FluxTrainer(Trainer):
    """One step on windows of pictures."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__("picture", args)
        torch.manual_seed(args.seed + self.step)  # a resumed stage draws other noise
        self.banks = self._make_banks()

    def _make_banks(self) -> dict[int, LatentBank]:
        """One bank per picture side, with enough scenes to begin."""
        args = self.args
        vae = PictureVae(args.model, self.device, self.dtype)
        banks = {}
        for side in {r.picture_side for r in args.recipe}:
            seed = args.seed * 1000 + side + self.step  # a resumed stage sees new scenes
            banks[side] = LatentBank(vae, side, args.bank, tuple(args.counts), seed, self.device)
            for _ in range(32):
                if not banks[side].is_full:
                    banks[side].add_new_scenes()
        return banks

    def train_step(self, choice: int, done: int, rate: float) -> float:
        recipe = self.args.recipe[choice]
        bank = self.banks[recipe.picture_side]
        if done % self.args.new_scene_every == 0:
            bank.add_new_scenes()
        clean, places, captions = bank.draw(recipe.batch, recipe.window)
        bias = stand_in_bias(recipe.window, self.model.tokens(recipe.picture_side))
        shift = self.model.flow_shift(recipe.picture_side)
        return self.update(self.loss(clean, places, captions, shift, bias), rate)


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, Recipe.__doc__, Recipe.parse)
    add = parser.add_argument
    counts = "shares of scenes with 1, 2, 3 objects"
    add("--counts", type=float, nargs="+", default=[0.5, 0.4, 0.1], help=counts)
    add("--bank", type=int, default=2048, help="encoded scenes kept per picture size")
    add("--new-scene-every", type=int, default=2, help="steps between new pictures")
    return parser.parse_args()


def main() -> None:
    FluxTrainer(parse_arguments()).run_stage()


if __name__ == "__main__":
    main()
