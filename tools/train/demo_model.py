"""What both demo models are for training: captions and noisy tokens to velocity, by rectified flow.

Timesteps run from 0 (a picture) to 1 (noise); a noisy token is the mixture of both, the velocity is
noise minus picture. `DemoModel` knows positions and attention, its two kinds (flux_model.py,
hunyuan_model.py) the rest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from blocks import PLAIN, Blocks, Keys, Tables, Text, key_mask, rotary_tables, sequence_ends
from blocks import whole_places
from weights import Parts, Weights

PIXELS_PER_TOKEN = 8
MASKED = -1e4


class DemoModel(ABC):
    """The networks of one kind of model; weights come with every call. `varlen` picks `Ends`."""

    files: Mapping[str, str]  # part: file in the model folder
    channels: int  # of a token
    frames: int  # of tokens, of a whole picture or film
    grid_side: int  # rows and columns of tokens that positions run over, whatever the size
    text_tokens: int
    text_is_padded: bool  # so that attention has to know how many are words
    axes: Sequence[int]  # rotary channels of frame, row, column
    theta: float

    def __init__(self, tokenize: Callable[[list[str]], tuple[np.ndarray, ...]], device: object):
        self.tokenize, self.device = tokenize, torch.device(device)
        self.varlen = False

    # -- captions, positions, keys

    def ids(self, texts: list[str]) -> tuple[torch.Tensor, ...]:
        """The tokenizers' tables [texts, ...] on the device."""
        return tuple(torch.from_numpy(a).long().to(self.device) for a in self.tokenize(texts))

    def tokens(self, side: int) -> int:
        """Tokens of a whole picture or film of side x side pixels."""
        return self.frames * (side // PIXELS_PER_TOKEN) ** 2

    def tables_at(self, places: torch.Tensor) -> Tables:
        """Rotary tables of tokens at frame, row and column [..., tokens, 3], and of the text."""
        return rotary_tables(places, self.text_tokens, self.axes, self.theta, self.device)

    def tables(self, side: int, frames: int | None = None, grid_side: int | None = None) -> Tables:
        """Rotary tables of a whole picture or film of side x side pixels."""
        grid = self.grid_side if grid_side is None else grid_side
        return self.tables_at(whole_places(frames or self.frames, side // PIXELS_PER_TOKEN, grid))

    def keys(self, words: torch.Tensor | None, tokens: int) -> Keys:
        """What attention has to know of whole pictures: where padding is, if there is any."""
        if words is None:
            return None
        return (sequence_ends if self.varlen else key_mask)(words, tokens, self.text_tokens)

    def window_keys(self, words: torch.Tensor | None, bias: torch.Tensor) -> torch.Tensor:
        """Biases [batch, 1, 1, keys] for windows whose tokens have biases [tokens]."""
        bias = F.pad(bias, (0, self.text_tokens)).expand(1 if words is None else len(words), -1)
        if words is not None:
            padding = ~key_mask(words, 0, self.text_tokens)[:, 0, 0]
            bias = bias + F.pad(MASKED * padding, (bias.shape[1] - self.text_tokens, 0))
        return bias[:, None, None]

    # -- the networks

    def is_trained(self, part: str, name: str) -> bool:
        """Whether a tensor has a part in the velocity: only such have gradients."""
        return True

    @abstractmethod
    def flow_shift(self, side: int) -> float:
        """The scheduler's shift of timesteps for pictures of side x side pixels."""

    @abstractmethod
    def start_noise(self, side: int, seed: int) -> torch.Tensor:
        """The pipeline's first latents [tokens, channels] of a seed, on the CPU."""

    @abstractmethod
    def encode(self, parts: Parts, ids: tuple[torch.Tensor, ...]) -> Text:
        """What the text encoders say of ids."""

    @abstractmethod
    def velocity(
        self,
        w: Weights,
        noisy: torch.Tensor,
        text: Text,
        t: torch.Tensor,
        tables: Tables,
        keys: Keys,
        dtype: torch.dtype,
        blocks: Blocks = PLAIN,
    ) -> torch.Tensor:
        """Velocity [batch, tokens, channels] of noisy tokens at timesteps t [batch]; both fp32."""


# ---- flow


def shifted(t: torch.Tensor | float, shift: float) -> torch.Tensor | float:
    """Timesteps as FlowMatchEulerDiscreteScheduler shifts them."""
    return shift * t / (1 + (shift - 1) * t)


def sample_timesteps(batch: int, shift: float, device: torch.device) -> torch.Tensor:
    """Shifted timesteps [batch]: logit-normal, drawn towards noise, a tenth uniform.

    Stratified: each comes from its own share of the distribution.
    """
    u = (torch.randperm(batch, device=device) + torch.rand(batch, device=device)) / batch
    z = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.99999, 0.99999))
    t = torch.sigmoid(0.4 + 1.2 * z)
    t = torch.where(torch.rand(batch, device=device) < 0.1, torch.rand_like(t), t)
    return shifted(t, shift).clamp(1e-4, 1.0)


def flow_loss(
    clean: torch.Tensor,
    shift: float,
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Mean squared error of velocity(noisy, t) at drawn timesteps; clean [batch, tokens, ...]."""
    t = sample_timesteps(len(clean), shift, clean.device)
    noise = torch.randn_like(clean)
    return F.mse_loss(velocity(torch.lerp(clean, noise, t[:, None, None]), t), noise - clean)


def drop_captions(
    ids: tuple[torch.Tensor, ...], empty: tuple[torch.Tensor, ...], share: float
) -> tuple[torch.Tensor, ...]:
    """Puts the empty caption's ids in place of a random share, which guidance needs."""
    dropped = torch.rand(len(ids[0]), device=ids[0].device) < share
    return tuple(
        torch.where(dropped.view(-1, *[1] * (a.ndim - 1)), e, a)
        for a, e in zip(ids, empty, strict=True)
    )


def sampler_sigmas(steps: int, shift: float) -> list[float]:
    """The pipelines' timesteps, with the final zero."""
    return [shifted(1 - i / steps, shift) for i in range(steps)] + [0.0]


@torch.no_grad()
def sample(
    model: DemoModel,
    parts: Parts,
    ids: tuple[torch.Tensor, ...],
    noise: torch.Tensor,
    tables: Tables,
    sigmas: Sequence[float],
    guidance: float,
    dtype: torch.dtype,
    batch: int = 32,
) -> torch.Tensor:
    """Normalised tokens of one picture a prompt, with true guidance against the empty prompt.

    `noise` [prompts, tokens, channels] as the pipeline starts with it.
    """
    empty, done = model.ids([""]), []
    for first in range(0, len(noise), batch):
        x = noise[first : first + batch].clone()
        n = len(x)
        both = tuple(
            torch.cat([a[first : first + n], e.expand(n, *e.shape[1:])])
            for a, e in zip(ids, empty, strict=True)
        )
        text = model.encode(parts, both)
        keys = model.keys(text.words, x.shape[1])
        for sigma, following in zip(sigmas, sigmas[1:]):
            t = torch.full((2 * n,), sigma, device=x.device)
            doubled = torch.cat([x, x])
            v = model.velocity(parts["transformer"], doubled, text, t, tables, keys, dtype)
            said, unsaid = v.chunk(2)
            x = x + (following - sigma) * (unsaid + guidance * (said - unsaid))
        done.append(x)
    return torch.cat(done)


def load_model(kind: str, folder: Path, device: object) -> DemoModel:
    """The networks of a "picture" or "film" model folder with its tokenizers."""
    from flux_model import FluxModel
    from hunyuan_model import HunyuanModel
    from tokens import FilmTokens, PictureTokens

    if kind == "picture":
        return FluxModel(PictureTokens(folder), device)
    return HunyuanModel(FilmTokens(folder), device)
