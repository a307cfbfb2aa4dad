"""Trains the video demo's HunyuanVideo transformer with its Llama and CLIP encoders.

Reads a folder of encoded clips (clip_bank.py) and a model folder (tokenizers and, unless
--from-nothing, weights to start from), trains one stage by rectified flow, and keeps everything that
is needed to go on in --state. Stages are runs of this
script with the same --state, see README.md. `export_video.py` writes the moving average of the
weights into a model folder.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from clip_bank import ClipBank
from hunyuan_model import MASKED, DemoHunyuan, VideoGeometry, VideoTokenizers
from hunyuan_model import rotary_angles, use_window_positions
from token_windows import WindowShape
from trainer import Trainer, drop_captions, load_tokenizers, make_parser, recipe_fields

HELD_OUT = Path(__file__).parents[1] / "quality" / "motion_prompts.txt"
FLOW_SHIFT = 5.0  # as in the scheduler's configuration


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


def key_bias(shape: WindowShape, tokens: int, text_mask: torch.Tensor) -> torch.Tensor:
    """VideoGeometry.key_bias: a scattered token stands for all that the window leaves out."""
    video = torch.zeros(len(text_mask), shape.tokens, device=text_mask.device)
    if shape.scattered:
        video[:, shape.window_tokens :] = math.log((tokens - shape.window_tokens) / shape.scattered)
    return torch.cat([video, MASKED * (1.0 - text_mask.float())], dim=1)[:, None, None, :]


class VideoTrainer(Trainer):
    """One step on windows of clips."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.tokenizers = VideoTokenizers(*load_tokenizers(args.model))
        if args.from_nothing:
            model = DemoHunyuan.from_nothing(self.tokenizers.llama, self.tokenizers.clip)
        else:
            model = DemoHunyuan.from_folder(args.model)
        use_window_positions(model.transformer)
        super().__init__(model, args)
        torch.manual_seed(args.seed + self.step)  # a resumed stage draws other noise
        held_out = frozenset(args.held_out.read_text(encoding="utf-8").splitlines())
        self.bank = ClipBank(args.bank, args.seed + self.step, held_out)
        self.denoise = torch.compile(model.denoise, dynamic=False) if args.compile else model.denoise

    def train_step(self, choice: int, done: int, rate: float) -> float:
        if done % self.args.read_every == 0:
            self.bank.take_up_new_files()
        recipe = self.args.recipe[choice]
        clean, positions, captions = self.bank.draw(
            recipe.batch, recipe.clip_side, recipe.window
        )
        captions = drop_captions(captions, self.args.caption_dropout)
        llama_ids, text_mask, clip_ids = (i.to(self.device) for i in self.tokenizers(captions))
        clean, positions = clean.to(self.device), positions.to(self.device)
        noise, timestep, noisy = self.add_noise(clean, FLOW_SHIFT)
        whole = math.prod(self.bank.grid(recipe.clip_side))
        bias = key_bias(recipe.window, whole, text_mask)
        geometry = VideoGeometry(*rotary_angles(positions), bias, text_mask)
        with self.autocast():
            text, pooled = self.model.encode(llama_ids, clip_ids)
            velocity = self.denoise(noisy, timestep, geometry, text, pooled)
        return self.update(torch.nn.functional.mse_loss(velocity.float(), noise - clean), rate)


def parse_arguments() -> argparse.Namespace:
    model = "folder with tokenizers and weights"
    parser = make_parser(__doc__, model, ClipRecipe.__doc__, ClipRecipe.parse)
    add = parser.add_argument
    add("--bank", type=Path, required=True, help="folder of clip_bank.py")
    add("--held-out", type=Path, default=HELD_OUT, help="captions that are not trained on")
    add("--read-every", type=int, default=100, help="steps between looks for new clips")
    return parser.parse_args()


def main() -> None:
    VideoTrainer(parse_arguments()).run_stage()


if __name__ == "__main__":
    main()
