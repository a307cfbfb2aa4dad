"""The blocks that FLUX and HunyuanVideo share, in plain PyTorch on tensors of a model folder.

Both transformers have the same double and single blocks under the same tensor names. Tokens of the
picture (or film) come first, those of the text last: attention does not care for the order, only
rotary tables and key masks have to follow it. The residual streams are fp32; `dtype` is the type of
the large products. Widths are read from the weights; heads have 64 channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from weights import Weights

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # PyTorch before 2.10
    varlen_attn = None

HEAD_DIM = 64
EPSILON = 1e-6
MAX_TOKENS_WRITTEN_OUT = 1500  # above, a score matrix no longer fits into a CPU's caches

Tables = tuple[torch.Tensor, torch.Tensor]


class Ends(NamedTuple):
    """Padding as flash attention takes it: where sequences end, int32 [2 batch + 1].

    Every sample is two sequences, its tokens and words, and its padding.
    """

    ends: torch.Tensor


# What attention knows about the keys: nothing, a mask or a bias on the scores [batch, 1, 1, keys]
# (True for keys that count), or where the sequences end.
Keys = torch.Tensor | Ends | None


class Text(NamedTuple):
    """What the text encoders say: states [batch, text, 128], pooled [batch, 128], words [batch].

    The last says how many of the states are words; None when padding counts as text.
    """

    states: torch.Tensor
    pooled: torch.Tensor
    words: torch.Tensor | None


# ---- positions


def whole_places(frames: int, side: int, grid_side: int) -> torch.Tensor:
    """Frame, row and column [frames * side^2, 3] of all tokens, fp64.

    Rows and columns are where a token's centre lies on a grid of grid_side x grid_side: in a small
    picture the tokens stand further apart, and "top left" is at the same rows and columns.
    """
    where = (torch.arange(side, dtype=torch.float64) + 0.5) * (grid_side / side) - 0.5
    times = torch.arange(frames, dtype=torch.float64)
    return torch.stack(torch.meshgrid(times, where, where, indexing="ij"), -1).reshape(-1, 3)


def rotary_tables(
    places: torch.Tensor, text: int, axes: Sequence[int], theta: float, device: torch.device
) -> Tables:
    """Cosine and signed sine [..., tokens + text, 1, 64] for places [..., tokens, 3].

    Text stands at the origin, so it is not turned. `axes` are the channels of each axis, with
    frequencies theta^(-2 i / channels). The sine of even channels is negative, so that
    x * cosine + swapped(x) * sine turns neighbouring channels as pairs.
    """
    places = F.pad(places.double(), (0, 0, 0, text))
    angles = []
    for axis, channels in enumerate(axes):
        exponents = torch.arange(0, channels, 2, device=places.device).double() / channels
        angles.append(places[..., axis, None] * theta**-exponents)
    angle = torch.cat(angles, -1)
    cosine = angle.cos().repeat_interleave(2, -1)
    sine = torch.stack([-angle.sin(), angle.sin()], -1).flatten(-2)
    return tuple(x.unsqueeze(-2).float().contiguous().to(device) for x in (cosine, sine))


# ---- attention


def key_mask(words: torch.Tensor, tokens: int, text: int) -> torch.Tensor:
    """True for tokens and words: [batch, 1, 1, tokens + text]."""
    places = torch.arange(tokens + text, device=words.device)
    return (places < words[:, None].long() + tokens)[:, None, None]


def sequence_ends(words: torch.Tensor, tokens: int, text: int) -> Ends:
    """`Ends` for samples of so many tokens and words [batch]."""
    real = words.to(torch.int32) + tokens
    pairs = torch.stack([real, tokens + text - real], -1).flatten()
    return Ends(F.pad(pairs.cumsum(0, dtype=torch.int32), (1, 0)))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: Keys) -> torch.Tensor:
    """Attention of q, k, v [batch, tokens, heads, 64]: [batch, tokens, heads * 64].

    Written out for short sequences on a CPU, where the fused backward is slower.
    """
    if isinstance(keys, Ends):
        batch, tokens = q.shape[:2]
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        return varlen_attn(q, k, v, keys.ends, keys.ends, tokens, tokens).reshape(batch, tokens, -1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if keys is not None and keys.dtype != torch.bool:
        keys = keys.to(q.dtype)
    if q.is_cuda or q.shape[2] > MAX_TOKENS_WRITTEN_OUT:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
    else:
        scores = (q * HEAD_DIM**-0.5) @ k.transpose(-1, -2)
        if keys is not None:
            masked = keys.dtype == torch.bool
            scores = scores.masked_fill(~keys, -1e30) if masked else scores + keys
        mixed = torch.softmax(scores, -1, dtype=q.dtype) @ v
    return mixed.transpose(1, 2).flatten(2)


# ---- parts of a block


def linear(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    """The linear layer of a name (or convolution of one pixel), in the type of its weights."""
    return F.linear(x, w[name + ".weight"].flatten(1), w.get(name + ".bias"))


def _cast_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A linear layer in the type of its input."""
    return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


def gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU's approximation by tanh."""
    return F.gelu(x, approximate="tanh")


def heads(x: torch.Tensor) -> torch.Tensor:
    """Channels as heads of 64: [..., heads, 64]."""
    return x.unflatten(-1, (-1, HEAD_DIM))


def _head(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Queries or keys by head, normalised by their root mean square, in fp32."""
    x = heads(x).float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight


def _turn(x: torch.Tensor, tables: Tables) -> torch.Tensor:
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * tables[0] + swapped * tables[1]


def modulated(
    x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Layer normalisation, scaled and shifted by [batch, width]."""
    x = F.layer_norm(x, x.shape[-1:], eps=EPSILON)
    return (x * (1 + scale[:, None]) + shift[:, None]).to(dtype)


# ---- the blocks

DOUBLE_LAYERS = (
    "norm1.linear", "norm1_context.linear",
    "attn.to_q", "attn.to_k", "attn.to_v",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
    "attn.to_out.0", "attn.to_add_out",
    "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
)  # fmt: skip
DOUBLE_NORMS = ("attn.norm_q", "attn.norm_k", "attn.norm_added_q", "attn.norm_added_k")
SINGLE_LAYERS = ("norm.linear", "attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out")
SINGLE_NORMS = ("attn.norm_q", "attn.norm_k")


def _tensor_names(layers: Sequence[str], norms: Sequence[str]) -> tuple[str, ...]:
    pairs = tuple(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))
    return pairs + tuple(f"{norm}.weight" for norm in norms)


DOUBLE_NAMES = _tensor_names(DOUBLE_LAYERS, DOUBLE_NORMS)
SINGLE_NAMES = _tensor_names(SINGLE_LAYERS, SINGLE_NORMS)


def double_block(
    x: torch.Tensor,
    c: torch.Tensor,
    temb: torch.Tensor,
    tables: Tables,
    keys: Keys,
    weights: list[torch.Tensor],
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture x [batch, tokens, width] and text c [batch, text, width], fp32; temb after SiLU."""
    (n1w, n1b, ncw, ncb, qw, qb, kw, kb, vw, vb, aqw, aqb, akw, akb, avw, avb, ow, ob, aow, aob,
     f0w, f0b, f2w, f2b, c0w, c0b, c2w, c2b, nq, nk, naq, nak) = weights  # fmt: skip
    shift1, scale1, gate1, shift2, scale2, gate2 = F.linear(temb, n1w, n1b).chunk(6, -1)
    cshift1, cscale1, cgate1, cshift2, cscale2, cgate2 = F.linear(temb, ncw, ncb).chunk(6, -1)
    hx, hc = modulated(x, scale1, shift1, dtype), modulated(c, cscale1, cshift1, dtype)
    qx, kx, vx = _cast_linear(hx, torch.cat([qw, kw, vw]), torch.cat([qb, kb, vb])).chunk(3, -1)
    added = torch.cat([aqw, akw, avw]), torch.cat([aqb, akb, avb])
    qc, kc, vc = _cast_linear(hc, *added).chunk(3, -1)
    q = _turn(torch.cat([_head(qx, nq), _head(qc, naq)], 1), tables).to(dtype)
    k = _turn(torch.cat([_head(kx, nk), _head(kc, nak)], 1), tables).to(dtype)
    mixed = attend(q, k, torch.cat([heads(vx), heads(vc)], 1), keys)
    mx, mc = mixed.split([x.shape[1], c.shape[1]], 1)
    x = x + gate1[:, None] * _cast_linear(mx, ow, ob).float()
    c = c + cgate1[:, None] * _cast_linear(mc, aow, aob).float()
    hx, hc = modulated(x, scale2, shift2, dtype), modulated(c, cscale2, cshift2, dtype)
    x = x + gate2[:, None] * _cast_linear(gelu(_cast_linear(hx, f0w, f0b)), f2w, f2b).float()
    c = c + cgate2[:, None] * _cast_linear(gelu(_cast_linear(hc, c0w, c0b)), c2w, c2b).float()
    return x, c


def single_block(
    x: torch.Tensor,
    temb: torch.Tensor,
    tables: Tables,
    keys: Keys,
    weights: list[torch.Tensor],
    dtype: torch.dtype,
) -> torch.Tensor:
    """Picture and text x [batch, tokens + text, width] in fp32; temb after SiLU."""
    nw, nb, qw, qb, kw, kb, vw, vb, mw, mb, ow, ob, nq, nk = weights
    shift, scale, gate = F.linear(temb, nw, nb).chunk(3, -1)
    h, width = modulated(x, scale, shift, dtype), x.shape[-1]
    wide = _cast_linear(h, torch.cat([qw, kw, vw, mw]), torch.cat([qb, kb, vb, mb]))
    q, k, v, mlp = wide.split([width, width, width, wide.shape[-1] - 3 * width], -1)
    q, k = (_turn(_head(y, norm), tables).to(dtype) for y, norm in ((q, nq), (k, nk)))
    out = torch.cat([attend(q, k, heads(v), keys), gelu(mlp)], -1)
    return x + gate[:, None] * _cast_linear(out, ow, ob).float()


class Blocks(NamedTuple):
    """The functions of both kinds of block, plain or compiled."""

    double: Callable = double_block
    single: Callable = single_block

    @staticmethod
    def compiled() -> Blocks:
        """Compiled for every shape that they meet."""
        options = {"dynamic": False, "fullgraph": True}
        return Blocks(
            torch.compile(double_block, **options), torch.compile(single_block, **options)
        )


PLAIN = Blocks()


# ---- around the blocks


def time_text(w: Weights, prefix: str, t: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """Embedding [batch, width] of timesteps in 0..1 and pooled text, after SiLU."""
    exponents = torch.arange(128, device=t.device, dtype=torch.float32) / 128
    angle = (t.float() * 1000)[:, None] * torch.exp(-math.log(10000.0) * exponents)
    time, words = prefix + ".timestep_embedder.", prefix + ".text_embedder."
    temb = torch.cat([angle.cos(), angle.sin()], -1)
    temb = linear(w, time + "linear_2", F.silu(linear(w, time + "linear_1", temb)))
    said = linear(w, words + "linear_2", F.silu(linear(w, words + "linear_1", pooled)))
    return F.silu(temb + said)


def run_blocks(
    w: Weights,
    x: torch.Tensor,
    c: torch.Tensor,
    temb: torch.Tensor,
    tables: Tables,
    keys: Keys,
    dtype: torch.dtype,
    blocks: Blocks,
) -> torch.Tensor:
    """Embedded picture x and text c through all blocks to velocity [batch, tokens, channels]."""
    tokens = x.shape[1]
    for own in _block_weights(w, "transformer_blocks", DOUBLE_NAMES):
        x, c = blocks.double(x, c, temb, tables, keys, own, dtype)
    x = torch.cat([x, c], 1)
    for own in _block_weights(w, "single_transformer_blocks", SINGLE_NAMES):
        x = blocks.single(x, temb, tables, keys, own, dtype)
    scale, shift = linear(w, "norm_out.linear", temb).chunk(2, -1)
    return linear(w, "proj_out", modulated(x[:, :tokens], scale, shift, torch.float32))


def _block_weights(w: Weights, kind: str, names: Sequence[str]) -> list[list[torch.Tensor]]:
    found, number = [], 0
    while f"{kind}.{number}.{names[0]}" in w:
        found.append([w[f"{kind}.{number}.{name}"] for name in names])
        number += 1
    return found
