"""Trains the demo's FLUX transformer with its T5 and CLIP text encoders by rectified flow.

Reads a model folder (VAE, tokenizers and, unless --from-nothing, weights to start from), trains one
stage, and keeps everything that is needed to go on in --state. Stages are runs of this script with
the same --state, see README.md. `export.py` writes the moving average of the weights into a model
folder.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from flux_model import TEXT_TOKENS, DemoFlux, Geometry, TokenizerPair
from flux_model import rotary_angles, use_window_positions
from latent_bank import LatentBank
from token_windows import WindowShape
from trainer import Trainer, drop_captions, load_tokenizers, make_parser, recipe_fields


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

    @property
    def tokens_of_whole_picture(self) -> int:
        return (self.picture_side // 8) ** 2

    @property
    def flow_shift(self) -> float:
        """The shift of FlowMatchEulerDiscreteScheduler for the whole picture's tokens."""
        return math.exp(0.5 + (self.tokens_of_whole_picture - 256) * (1.15 - 0.5) / (4096 - 256))

    def key_bias(self, device: torch.device) -> torch.Tensor | None:
        """Geometry.key_bias: a scattered token stands for all that the window leaves out."""
        side, scattered = self.window.side, self.window.scattered
        if scattered == 0:
            return None
        bias = torch.zeros(TEXT_TOKENS + side**2 + scattered, device=device)
        bias[-scattered:] = math.log((self.tokens_of_whole_picture - side**2) / scattered)
        return bias


class FluxTrainer(Trainer):
    """One step on windows of pictures."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.tokenizers = TokenizerPair(*load_tokenizers(args.model))
        if args.from_nothing:
            sizes = (len(self.tokenizers.clip), len(self.tokenizers.t5))
            model = DemoFlux.from_nothing(*sizes)
        else:
            model = DemoFlux.from_folder(args.model)
        use_window_positions(model.transformer)
        super().__init__(model, args)
        self.banks = self._make_banks()
        self.forward = torch.compile(model, dynamic=False) if args.compile else model

    def _make_banks(self) -> dict[int, LatentBank]:
        """One bank per picture side, with enough scenes to begin."""
        args = self.args
        dtype = torch.float32 if args.fp32 else torch.bfloat16
        vae = AutoencoderKL.from_pretrained(args.model / "vae", torch_dtype=dtype)
        vae.eval().to(self.device, memory_format=torch.channels_last)
        banks = {}
        for side in {r.picture_side for r in args.recipe}:
            seed = args.seed * 1000 + side + self.step  # a resumed stage sees new scenes
            banks[side] = LatentBank(vae, side, args.bank, tuple(args.counts), seed)
            for _ in range(32):
                banks[side].add_new_scenes()
        return banks

    def train_step(self, choice: int, done: int, rate: float) -> float:
        recipe = self.args.recipe[choice]
        bank = self.banks[recipe.picture_side]
        if done % self.args.new_scene_every == 0:
            bank.add_new_scenes()
        clean, positions, captions = bank.draw(recipe.batch, recipe.window)
        captions = drop_captions(captions, self.args.caption_dropout)
        clip_ids, t5_ids = (ids.to(self.device) for ids in self.tokenizers(captions))
        clean, positions = clean.to(self.device), positions.to(self.device)
        noise, timestep, noisy = self.add_noise(clean, recipe.flow_shift)
        geometry = Geometry(*rotary_angles(positions), recipe.key_bias(self.device))
        with self.autocast():
            velocity = self.forward(noisy, timestep, geometry, clip_ids, t5_ids)
        return self.update(torch.nn.functional.mse_loss(velocity.float(), noise - clean), rate)


def parse_arguments() -> argparse.Namespace:
    model = "diffusers folder with VAE and tokenizers"
    parser = make_parser(__doc__, model, Recipe.__doc__, Recipe.parse)
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
