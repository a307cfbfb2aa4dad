"""Encoded clips on disk: writes them, and draws windows of tokens from them for training.

Drawing and encoding a clip costs more than a training step on a window of it, so clips are encoded
once, by any number of processes beside the training, which takes up new files as they come. A
folder may hold clips of several sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from clips import Clip, Course, caption, frame_times, paint, parse_caption, sample_clip
from demo_model import PIXELS_PER_TOKEN
from film_vae import FilmVae
from hunyuan_model import HunyuanModel
from token_windows import WindowShape, choose_positions

GRID_SIDE = HunyuanModel.grid_side


class ClipBank:
    """The encoded clips of a folder, without those whose captions are held out for judging."""

    def __init__(self, folder: Path, seed: int, held_out: frozenset[str] = frozenset()) -> None:
        self._folder = folder
        self._held_out = held_out
        self._rng = np.random.default_rng(seed)
        self._read: set[Path] = set()
        self._clips: dict[int, list[tuple[str, torch.Tensor]]] = {}  # by side in pixels
        self.take_up_new_files()

    def grid(self, side: int) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens of a clip of side x side pixels."""
        if side not in self._clips:
            message = f"no encoded clips of {side} pixels in {self._folder}: run clip_bank.py first"
            raise FileNotFoundError(message)
        return tuple(self._clips[side][0][1].shape[:3])

    def take_up_new_files(self) -> None:
        """Reads the files that were written since the last call."""
        for path in sorted(set(self._folder.glob("*.pt")) - self._read):
            shard = torch.load(path)
            for text, tokens in zip(shard["captions"], shard["tokens"], strict=True):
                if text not in self._held_out:
                    side = tokens.shape[1] * PIXELS_PER_TOKEN
                    self._clips.setdefault(side, []).append((text, tokens))
            self._read.add(path)

    def draw(
        self, batch: int, side: int, shape: WindowShape
    ) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Tokens [batch, tokens, 16] fp32, their positions [batch, tokens, 3], and captions.

        Rows and columns are where a token's centre lies on the grid of a clip of 128 x 128 pixels:
        in a smaller clip the tokens stand further apart, and "top left" is at the same ones.
        """
        grid = self.grid(side)
        stretch = torch.tensor([1, GRID_SIDE / grid[1], GRID_SIDE / grid[2]], dtype=torch.float64)
        tokens, positions, texts = [], [], []
        for index in self._rng.integers(len(self._clips[side]), size=batch):
            text, clip = self._clips[side][index]
            first = int(self._rng.integers(grid[0] - shape.frames + 1))
            time = (first + shape.frames / 2) / grid[0]
            x, y, _, _ = Course.of(parse_caption(text)).at(time)
            where = choose_positions(self._rng, grid, shape, first, (x, y))
            tokens.append(clip[where[:, 0], where[:, 1], where[:, 2]].float())
            positions.append((torch.from_numpy(where) + 0.5) * stretch - 0.5)
            texts.append(text)
        return torch.stack(tokens), torch.stack(positions), texts


def encode(
    vae: FilmVae, clip: Clip, side: int, frames: int, rng: np.random.Generator
) -> torch.Tensor:
    """Latents [frames, rows, columns, channels] in bf16 of a clip, painted with its jitter."""
    pixels = np.empty((1, frames, side, side, 3), np.uint8)
    paint(clip, side, frame_times(frames), rng, pixels[0])
    rows = side // PIXELS_PER_TOKEN
    tokens = vae.encode(torch.from_numpy(pixels), torch.bfloat16)
    return tokens[0].unflatten(0, (-1, rows, rows)).bfloat16()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model folder with the VAE")
    add("--output", type=Path, required=True, help="folder for the files")
    add("--files", type=int, default=48, help="files that are there already count")
    add("--clips", type=int, default=16, help="clips in a file")
    add("--side", type=int, default=128)
    add("--frames", type=int, default=33)
    add("--seed", type=int, default=0, help="the same seed draws the same clips")
    args = parser.parse_args()
    vae = FilmVae.from_folder(args.model, "cpu")
    args.output.mkdir(parents=True, exist_ok=True)
    for file in range(args.files):
        path = args.output / f"{args.side:03d}-{args.seed:03d}-{file:04d}.pt"
        if path.exists():
            continue
        rng = np.random.default_rng((args.side, args.seed, file))
        clips = [sample_clip(rng) for _ in range(args.clips)]
        tokens = [encode(vae, clip, args.side, args.frames, rng) for clip in clips]
        partial = path.with_suffix(".partial")
        torch.save(
            {"captions": [caption(c) for c in clips], "tokens": torch.stack(tokens)}, partial
        )
        partial.replace(path)
        print(f"{path.name}", flush=True)


if __name__ == "__main__":
    main()
