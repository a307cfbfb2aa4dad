"""The picture demo's networks: FLUX transformer, T5 and CLIP, on tensors of the model folder."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from blocks import PLAIN, Blocks, Keys, Tables, Text, linear, run_blocks, time_text
from demo_model import PIXELS_PER_TOKEN, DemoModel
from text_encoders import clip_pooled, t5_buckets, t5_states
from tokens import T5_TOKENS
from weights import Parts, Weights

LATENT_CHANNELS = 8  # a token is 2 x 2 latent pixels, 8 x 8 picture pixels with an f4 VAE


class FluxModel(DemoModel):
    """2 double and 6 single blocks of width 256, 11.1 M parameters, with its text encoders."""

    files = {
        "transformer": "transformer/diffusion_pytorch_model.safetensors",
        "clip": "text_encoder/model.safetensors",
        "t5": "text_encoder_2/model.safetensors",
    }
    channels, frames, grid_side = 4 * LATENT_CHANNELS, 1, 64
    text_tokens, text_is_padded = T5_TOKENS, False
    axes, theta = (8, 28, 28), 10000.0

    def __init__(self, tokenize: Callable[[list[str]], tuple[np.ndarray, ...]], device: object):
        super().__init__(tokenize, device)
        self._buckets = t5_buckets(self.text_tokens, self.device)

    def flow_shift(self, side: int) -> float:
        return math.exp(0.5 + (self.tokens(side) - 256) * (1.15 - 0.5) / (4096 - 256))

    def start_noise(self, side: int, seed: int) -> torch.Tensor:
        generator = torch.Generator("cpu").manual_seed(seed)
        rows = 2 * side // PIXELS_PER_TOKEN
        return pack(torch.randn((1, LATENT_CHANNELS, rows, rows), generator=generator))[0]

    def encode(self, parts: Parts, ids: tuple[torch.Tensor, ...]) -> Text:
        clip, t5 = ids
        states = t5_states(parts["t5"], t5, self._buckets)
        return Text(states, clip_pooled(parts["clip"], clip), None)

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
        temb = time_text(w, "time_text_embed", t, text.pooled)
        x, c = linear(w, "x_embedder", noisy), linear(w, "context_embedder", text.states)
        return run_blocks(w, x, c, temb, tables, keys, dtype, blocks)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[batch, 8, height, width] latents to [batch, height/2 * width/2, 32] tokens, as FLUX does."""
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, 4 * channels).contiguous()


def unpack(tokens: torch.Tensor) -> torch.Tensor:
    """The inverse of `pack`, for square pictures."""
    batch, count, channels = tokens.shape
    side = math.isqrt(count)
    x = tokens.reshape(batch, side, side, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(batch, channels // 4, 2 * side, 2 * side).contiguous()
