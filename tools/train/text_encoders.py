"""The text encoders of both demo models in plain PyTorch: CLIP, T5 and Llama.

They take the tensors of a model folder and have states of 128 channels. `test_networks.py` compares
them with transformers' classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from blocks import gelu, linear
from weights import Weights

CLIP_END = 1  # of text, and padding
HEAD_DIM = 32
LLAMA_LAYERS = 2  # HunyuanVideoPipeline takes the states before the last two of four


def _split(x: torch.Tensor) -> torch.Tensor:
    """[batch, tokens, channels] to [batch, heads, tokens, 32]."""
    return x.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)


def _rms(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * w[name + ".weight"]


def clip_pooled(w: Weights, ids: torch.Tensor) -> torch.Tensor:
    """CLIPTextModel's pooler_output [batch, 128] of ids [batch, tokens] that hold the end token."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)

    x = F.embedding(ids, w["embeddings.token_embedding.weight"])
    x = x + w["embeddings.position_embedding.weight"][: ids.shape[1]]
    for i in range(2):
        layer = f"encoder.layers.{i}."
        h = norm(layer + "layer_norm1", x)
        q, k, v = (_split(linear(w, layer + f"self_attn.{n}_proj", h)) for n in "qkv")
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + linear(w, layer + "self_attn.out_proj", h)
        h = linear(w, layer + "mlp.fc1", norm(layer + "layer_norm2", x))
        x = x + linear(w, layer + "mlp.fc2", h * torch.sigmoid(1.702 * h))
    ends = (ids == CLIP_END).int().argmax(-1)
    return norm("final_layer_norm", x)[torch.arange(len(ids), device=ids.device), ends]


def t5_buckets(length: int, device: torch.device) -> torch.Tensor:
    """T5's bucket [query, key] of every distance (bidirectional, 32 buckets, distance 128)."""
    distance = torch.arange(length)[None] - torch.arange(length)[:, None]
    bucket = (distance > 0).long() * 16
    distance = distance.abs()
    large = 8 + (torch.log(distance.float().clamp(min=1) / 8) / math.log(128 / 8) * 8).long()
    return (bucket + torch.where(distance < 8, distance, large.clamp(max=15))).to(device)


def t5_states(w: Weights, ids: torch.Tensor, buckets: torch.Tensor) -> torch.Tensor:
    """T5EncoderModel's last_hidden_state [batch, tokens, 128] of ids, nothing masked."""
    x = F.embedding(ids, w["shared.weight"])
    first = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    bias = F.embedding(buckets, w[first]).permute(2, 0, 1)[None]
    for i in range(2):
        layer = f"encoder.block.{i}.layer."
        h = _rms(w, layer + "0.layer_norm", x)
        q, k, v = (_split(linear(w, layer + f"0.SelfAttention.{n}", h)) for n in "qkv")
        h = torch.softmax(q @ k.transpose(-1, -2) + bias, -1) @ v
        x = x + linear(w, layer + "0.SelfAttention.o", h.transpose(1, 2).flatten(2))
        h, dense = _rms(w, layer + "1.layer_norm", x), layer + "1.DenseReluDense."
        h = gelu(linear(w, dense + "wi_0", h)) * linear(w, dense + "wi_1", h)
        x = x + linear(w, dense + "wo", h)
    return _rms(w, "encoder.final_layer_norm", x)


def llama_states(w: Weights, template: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """LlamaModel's states after two layers [batch, tokens, 128] of `template` [1, 95] and then ids.

    The template is the same for all and sees nothing of what follows, so it runs once.
    """
    first, batch = template.shape[1], len(ids)
    tables = _llama_tables(first + ids.shape[1], ids.device)
    ahead = F.embedding(template, w["embed_tokens.weight"])
    x = F.embedding(ids, w["embed_tokens.weight"])
    inside = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
    mask = F.pad(inside, (first, 0), value=True)
    for i in range(LLAMA_LAYERS):
        layer, last = f"layers.{i}.", i + 1 == LLAMA_LAYERS
        qa, ka, va = _llama_projections(w, layer, ahead, tables, 0)
        q, k, v = _llama_projections(w, layer, x, tables, first)
        k, v = (torch.cat([a.expand(batch, -1, -1, -1), b], 2) for a, b in ((ka, k), (va, v)))
        scores = q @ k.transpose(-1, -2) * HEAD_DIM**-0.5
        x = _llama_rest(w, layer, x, torch.softmax(scores.masked_fill(~mask, -1e30), -1) @ v)
        if not last:  # the template's own states are needed by the next layer only
            mixed = F.scaled_dot_product_attention(qa, ka, va, is_causal=True)
            ahead = _llama_rest(w, layer, ahead, mixed)
    return x


def _llama_tables(length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine [length, 32] of Llama's positions (halves turned against each other)."""
    frequencies = 10000.0 ** (-torch.arange(0, HEAD_DIM, 2, device=device).float() / HEAD_DIM)
    angle = torch.arange(length, device=device).float()[:, None] * frequencies
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def _llama_projections(
    w: Weights, layer: str, x: torch.Tensor, tables: tuple[torch.Tensor, ...], first: int
) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values [batch, 4, tokens, 32] of tokens that begin at place `first`."""

    def turn(x: torch.Tensor) -> torch.Tensor:
        cosine, sine = (t[first : first + x.shape[2]] for t in tables)
        left, right = x.chunk(2, -1)
        return x * cosine + torch.cat([-right, left], -1) * sine

    h = _rms(w, layer + "input_layernorm", x)
    q, k, v = (_split(linear(w, layer + f"self_attn.{n}_proj", h)) for n in "qkv")
    groups = q.shape[1] // k.shape[1]
    return turn(q), turn(k).repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)


def _llama_rest(w: Weights, layer: str, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """What follows attention: output projection and gated MLP."""
    x = x + linear(w, layer + "self_attn.o_proj", mixed.transpose(1, 2).flatten(2))
    h = _rms(w, layer + "post_attention_layernorm", x)
    h = F.silu(linear(w, layer + "mlp.gate_proj", h)) * linear(w, layer + "mlp.up_proj", h)
    return x + linear(w, layer + "mlp.down_proj", h)
