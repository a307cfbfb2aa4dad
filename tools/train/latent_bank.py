"""A bank of encoded scenes that training draws windows of tokens from.

Drawing and encoding a 512 x 512 scene costs more than a training step on a window of it, so scenes
are kept encoded and drawn from several times; each draw replaces the oldest ones by new ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from demo_model import PIXELS_PER_TOKEN
from flux_model import FluxModel
from picture_vae import PictureVae
from scenes import PLACES, Scene, caption, render, sample_scene
from token_windows import WindowShape, choose_positions

GRID_SIDE = FluxModel.grid_side


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
        vae: PictureVae,
        picture_side: int,
        capacity: int,
        count_probabilities: tuple[float, ...],
        seed: int,
        device: torch.device,
    ) -> None:
        self.token_side = picture_side // PIXELS_PER_TOKEN
        self._vae, self._device = vae, device
        self._picture_side = picture_side
        self._count_probabilities = count_probabilities
        self._rng = np.random.default_rng(seed)
        self._scenes: deque[EncodedScene] = deque(maxlen=capacity)

    @property
    def is_full(self) -> bool:
        """Whether new scenes take the place of old ones."""
        return len(self._scenes) == self._scenes.maxlen

    def add_new_scenes(self) -> None:
        """Draws and encodes new scenes, as many as fit on 512 x 512; the oldest make room."""
        count = (GRID_SIDE // self.token_side) ** 2
        scenes = [sample_scene(self._rng, self._count_probabilities) for _ in range(count)]
        pictures = np.stack([render(s, self._picture_side, self._rng) for s in scenes])
        for scene, tokens in zip(scenes, self._encode(pictures), strict=True):
            self._scenes.append(EncodedScene(scene, caption(scene), tokens))

    def _encode(self, pictures: np.ndarray) -> torch.Tensor:
        batch = torch.from_numpy(np.round(pictures * 255).astype(np.uint8)).to(self._device)
        tokens = self._vae.encode(batch).bfloat16().cpu()
        return tokens.unflatten(1, (self.token_side, self.token_side))

    def draw(self, batch: int, shape: WindowShape) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Tokens [batch, tokens, 32] fp32, their places [batch, tokens, 3], and captions.

        Places (frame 0, row, column) are where a token's centre lies on the grid of a 512 x 512
        picture: in a smaller one the tokens stand further apart, and "top left" is at the same rows
        and columns.
        """
        stretch = GRID_SIDE / self.token_side
        tokens, positions, texts = [], [], []
        for index in self._rng.integers(len(self._scenes), size=batch):
            encoded = self._scenes[index]
            where = self._choose_positions(encoded.scene, shape)
            tokens.append(encoded.tokens[where[:, 0], where[:, 1]].float())
            places = (where.double() + 0.5) * stretch - 0.5
            positions.append(torch.nn.functional.pad(places, (1, 0)))
            texts.append(encoded.text)
        return torch.stack(tokens), torch.stack(positions), texts

    def _choose_positions(self, scene: Scene, shape: WindowShape) -> torch.Tensor:
        """Rows and columns of the tokens of one sample, mostly near an object: [tokens, 2]."""
        place = scene.objects[self._rng.integers(len(scene.objects))].place
        grid = (1, self.token_side, self.token_side)
        where = choose_positions(self._rng, grid, shape, 0, PLACES[place])
        return torch.from_numpy(where[:, 1:])
