"""The video demo's networks: HunyuanVideo transformer, Llama and CLIP, on tensors of the folder.

The text is padded, so attention masks keys: `DemoModel.keys`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from blocks import HEAD_DIM, PLAIN, Blocks, Keys, Tables, Text, heads, key_mask, linear
from blocks import run_blocks, time_text
from demo_model import PIXELS_PER_TOKEN, DemoModel
from text_encoders import LLAMA_LAYERS, clip_pooled, llama_states
from tokens import LLAMA_TOKENS
from weights import Parts, Weights

LATENT_CHANNELS = 16  # a token is one latent: 8 x 8 pixels of 4 frames
FLOW_SHIFT = 5.0  # as in the scheduler's configuration


class HunyuanModel(DemoModel):
    """2 double and 4 single blocks of width 192, with its text encoders."""

    files = {
        "transformer": "transformer/diffusion_pytorch_model.safetensors",
        "llama": "text_encoder/model.safetensors",
        "clip": "text_encoder_2/model.safetensors",
    }
    channels, frames, grid_side = LATENT_CHANNELS, 9, 16
    text_tokens, text_is_padded = LLAMA_TOKENS, True
    axes, theta = (16, 24, 24), 256.0

    def is_trained(self, part: str, name: str) -> bool:
        used = ("embed_tokens", *(f"layers.{i}." for i in range(LLAMA_LAYERS)))
        return part != "llama" or name.startswith(used)

    def flow_shift(self, side: int) -> float:
        return FLOW_SHIFT

    def start_noise(self, side: int, seed: int, frames: int | None = None) -> torch.Tensor:
        generator = torch.Generator("cpu").manual_seed(seed)
        rows = side // PIXELS_PER_TOKEN
        shape = (LATENT_CHANNELS, frames or self.frames, rows, rows)
        return torch.randn((1, *shape), generator=generator)[0].flatten(1).T.contiguous()

    def encode(self, parts: Parts, ids: tuple[torch.Tensor, ...]) -> Text:
        llama, words, clip = ids
        template = torch.tensor([self.tokenize.template], device=self.device)
        states = llama_states(parts["llama"], template, llama)
        return Text(states, clip_pooled(parts["clip"], clip), words)

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
        x, c = linear(w, "x_embedder.proj", noisy), refined_text(w, text, t)
        return run_blocks(w, x, c, temb, tables, keys, dtype, blocks)


def refined_text(w: Weights, text: Text, t: torch.Tensor) -> torch.Tensor:
    """The token refiner: states [batch, text, 128] to [batch, text, width]."""
    name = "context_embedder."
    block = name + "token_refiner.refiner_blocks.0."

    def norm(layer: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = w[block + layer + ".weight"], w[block + layer + ".bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-6)

    count = text.states.shape[1]
    mask = key_mask(text.words, 0, count)[:, 0, 0]
    pooled = (text.states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    temb = time_text(w, name + "time_text_embed", t, pooled)
    pairs = mask[:, None, None, :] & mask[:, None, :, None]
    pairs = pairs | (torch.arange(count, device=mask.device) == 0)
    x = linear(w, name + "proj_in", text.states)
    gate1, gate2 = linear(w, block + "norm_out.linear", temb).chunk(2, -1)
    h = norm("norm1", x)
    q, k, v = (heads(linear(w, block + f"attn.to_{n}", h)).transpose(1, 2) for n in "qkv")
    scores = q @ k.transpose(-1, -2) * HEAD_DIM**-0.5
    h = torch.softmax(scores.masked_fill(~pairs, -1e30), -1) @ v
    x = x + linear(w, block + "attn.to_out.0", h.transpose(1, 2).flatten(2)) * gate1[:, None]
    h = F.silu(linear(w, block + "ff.net.0.proj", norm("norm2", x)))
    return x + linear(w, block + "ff.net.2", h) * gate2[:, None]
