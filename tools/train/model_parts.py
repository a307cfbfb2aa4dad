"""What training needs of both demo models: CLIP, tokens of captions, and attention in which every
sample of a batch has its own positions and every key its own bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers import BatchEncoding, CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

CLIP_TOKENS = 77
MAX_TOKENS_WRITTEN_OUT = 1500  # above, a score matrix no longer fits into the caches


def build_clip(vocab_size: int) -> CLIPTextModel:
    """The text encoder whose pooled output modulates every block."""
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        projection_dim=128,
    )
    return CLIPTextModel(config)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> BatchEncoding:
    """Token ids and mask [batch, length], padded and cut as the pipelines do."""
    return tokenizer(
        texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )


def axis_angles(
    positions: torch.Tensor, axes: Sequence[int], theta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine [batch, tokens, 1, channels/2] for positions [batch, tokens, axes].

    `axes` are the channels of each axis, with frequencies theta^(-2 i / channels).
    """
    angles = []
    for axis, dim in enumerate(axes):
        exponents = torch.arange(0, dim, 2, device=positions.device).double() / dim
        angles.append(positions[..., axis, None] * theta**-exponents)
    angle = torch.cat(angles, dim=-1)[:, :, None, :]
    return angle.cos().float(), angle.sin().float()


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Turns neighbouring channels of x [batch, tokens, heads, channels] as pairs."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], dim=-1)
    return turned.flatten(-2).to(x.dtype)


class GivenGeometry(torch.nn.Module):
    """Stands in for a transformer's rotary embedding: hands on the geometry that it was given."""

    geometry: Any = None

    def forward(self, _: torch.Tensor) -> Any:
        return self.geometry


class AttentionProcessor:
    """What diffusers asks of every attention processor."""

    _attention_backend = None
    _parallel_config = None


def project(
    attn: torch.nn.Module, states: torch.Tensor, added: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value [batch, tokens, heads, channels] of states, the first two normalised.

    `added` takes the projections that a double block has for its text.
    """
    if added:
        to_query, to_key, to_value = attn.add_q_proj, attn.add_k_proj, attn.add_v_proj
        norm_query, norm_key = attn.norm_added_q, attn.norm_added_k
    else:
        to_query, to_key, to_value = attn.to_q, attn.to_k, attn.to_v
        norm_query, norm_key = attn.norm_q, attn.norm_k

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (attn.heads, -1))

    query, key = norm_query(heads(to_query(states))), norm_key(heads(to_key(states)))
    return query, key, heads(to_value(states))


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, key_bias: torch.Tensor | None
) -> torch.Tensor:
    """Attention with a bias [keys] or [batch, 1, 1, keys] on the scores of each key.

    Written out for short sequences on a CPU, where the fused backward is slower.
    """
    if query.is_cuda or query.shape[2] > MAX_TOKENS_WRITTEN_OUT:
        mask = None
        if key_bias is not None:
            shape = (query.shape[0], 1, query.shape[2], key.shape[2])
            mask = key_bias.to(query.dtype).broadcast_to(shape)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
    if key_bias is not None:
        scores = scores + key_bias.to(scores.dtype)
    return torch.matmul(torch.softmax(scores, -1, dtype=query.dtype), value)
