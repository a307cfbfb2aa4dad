"""A bank of encoded scenes that training draws windows of tokens from.

Drawing and encoding a 512 x 512 scene costs more than a training step on a window of it, so scenes
are kept encoded and drawn from several times; each draw replaces the oldest ones by new ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from flux_model import pack
from scenes import PLACES, Scene, caption, render, sample_scene
from token_windows import WindowShape, choose_positions

PIXELS_PER_TOKEN = 8
GRID_SIDE = 64  # positions run over this many rows and columns, whatever the picture's size


@dataclass
class EncodedScene:
    """A scene's caption and its normalised tokens [side, side, 32] in bf16."""

    scene: Scene
    text: str
    tokens: torch.Tensor


class LatentBank:
    """Encoded scenes of one picture size."""

    def __init__(
        self,
        vae: AutoencoderKL,
        picture_side: int,
        capacity: int,
        count_probabilities: tuple[float, ...],
        seed: int,
    ) -> None:
        self.token_side = picture_side // PIXELS_PER_TOKEN
        self._vae = vae
        self._picture_side = picture_side
        self._count_probabilities = count_probabilities
        self._rng = np.random.default_rng(seed)
        self._scenes: deque[EncodedScene] = deque(maxlen=capacity)

    def add_new_scenes(self) -> None:
        """Draws and encodes new scenes, as many as fit on 512 x 512; the oldest make room."""
        count = (GRID_SIDE // self.token_side) ** 2
        scenes = [sample_scene(self._rng, self._count_probabilities) for _ in range(count)]
        pictures = np.stack([render(s, self._picture_side, self._rng) for s in scenes])
        for scene, tokens in zip(scenes, self._encode(pictures), strict=True):
            self._scenes.append(EncodedScene(scene, caption(scene), tokens))

    def _encode(self, pictures: np.ndarray) -> torch.Tensor:
        device, dtype = self._vae.device, self._vae.dtype
        batch = torch.from_numpy(pictures * 2 - 1).permute(0, 3, 1, 2).to(device, dtype)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = self._vae.encode(batch).latent_dist.mode().float()
        config = self._vae.config
        latents = (latents - config.shift_factor) * config.scaling_factor
        return pack(latents.contiguous()).bfloat16()

    def draw(
        self, batch: int, shape: WindowShape
    ) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Tokens [batch, tokens, 32] fp32, their positions [batch, tokens, 2], and captions.

        Positions are where a token's centre lies on the grid of a 512 x 512 picture: in a smaller
        picture the tokens stand further apart, and "top left" is at the same rows and columns.
        """
        stretch = GRID_SIDE / self.token_side
        tokens, positions, texts = [], [], []
        for index in self._rng.integers(len(self._scenes), size=batch):
            encoded = self._scenes[index]
            where = self._choose_positions(encoded.scene, shape)
            tokens.append(encoded.tokens[where[:, 0], where[:, 1]].float())
            positions.append((where.double() + 0.5) * stretch - 0.5)
            texts.append(encoded.text)
        return torch.stack(tokens), torch.stack(positions), texts

    def _choose_positions(self, scene: Scene, shape: WindowShape) -> torch.Tensor:
        """Rows and columns of the tokens of one sample, mostly near an object: [tokens, 2]."""
        place = scene.objects[self._rng.integers(len(scene.objects))].place
        grid = (1, self.token_side, self.token_side)
        where = choose_positions(self._rng, grid, shape, 0, PLACES[place])
        return torch.from_numpy(where[:, 1:])
