"""The video demo's causal AutoencoderKLHunyuanVideo in plain PyTorch, trainable.

Pixels and features are [batch, time, height, width, channels]. A convolution of 3 x 3 x 3 runs as
one of 3 x 3 on three frames stacked as channels. Whole clips go through it piece by piece in time,
as in diffusers; `encode_piece` and `decode_piece` are one such piece, and what training runs.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from blocks import linear
from hunyuan_model import LATENT_CHANNELS
from safetensors.torch import load_file
from weights import VAE_FILE, Weights

TILE, STRIDE = 16, 12  # frames, as diffusers' framewise encoding and decoding


class FilmVae:
    """The VAE of some tensors, in fp32."""

    def __init__(self, tensors: Weights, device: object) -> None:
        self.exact = {
            k: v.detach().to(device, torch.float32).contiguous() for k, v in tensors.items()
        }
        self.device = torch.device(device)
        self._cast: dict[torch.dtype, Weights] = {torch.float32: self.exact}

    @staticmethod
    def from_folder(folder: Path, device: object) -> FilmVae:
        """The VAE of a model folder; ValueError when it scales its latents."""
        config = json.loads((Path(folder) / "vae/config.json").read_text(encoding="utf-8"))
        if config.get("scaling_factor") != 1.0:
            raise ValueError(f"{folder}/vae/config.json: scaling_factor is not 1")
        return FilmVae(load_file(str(Path(folder) / VAE_FILE)), device)

    def weights(self, dtype: torch.dtype) -> Weights:
        """The weights in a type; casts are kept."""
        if dtype not in self._cast:
            self._cast[dtype] = {k: v.detach().to(dtype) for k, v in self.exact.items()}
        return self._cast[dtype]

    @torch.no_grad()
    def encode(self, clips: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Bytes [batch, frames, side, side, 3] to tokens [batch, latents * rows^2, 16], fp32."""
        w, x = self.weights(dtype), clips.to(dtype) / 127.5 - 1
        frames = x.shape[1]
        if frames <= TILE:
            return encode_piece(w, x)[..., :LATENT_CHANNELS].flatten(1, 3).float()
        pieces = [x[:, i : i + TILE + 1] for i in range(0, frames, STRIDE)]
        whole = sum(p.shape[1] == TILE + 1 for p in pieces)  # these come first: all at once
        row = list(encode_piece(w, torch.cat(pieces[:whole])).chunk(whole))
        row += [encode_piece(w, p) for p in pieces[whole:]]
        row[1:] = [tile[:, 1:] for tile in row[1:]]
        parts = [row[0][:, : STRIDE // 4 + 1]]
        for i in range(1, len(row)):  # blended over one frame: there it is the earlier piece's
            if row[i].shape[1]:
                row[i] = torch.cat([row[i - 1][:, -1:], row[i][:, 1:]], 1)
            parts.append(row[i][:, : STRIDE // 4])
        latents = torch.cat(parts, 1)[:, : (frames - 1) // 4 + 1, ..., :LATENT_CHANNELS]
        return latents.flatten(1, 3).float()

    @torch.no_grad()
    def decode(self, tokens: torch.Tensor, frames: int) -> torch.Tensor:
        """Tokens [batch, frames * rows^2, 16] to bytes [batch, 4 frames - 3, side, side, 3]."""
        rows = math.isqrt(tokens.shape[1] // frames)
        z = tokens.float().unflatten(1, (frames, rows, rows))
        if frames <= TILE // 4:
            x = decode_piece(self.exact, z)
        else:
            x = self._decode_pieces(z)[:, : 4 * frames - 3]
        return ((x / 2 + 0.5).clamp(0, 1).nan_to_num() * 255).round().to(torch.uint8)

    def _decode_pieces(self, z: torch.Tensor) -> torch.Tensor:
        row = []
        for first in range(0, z.shape[1], STRIDE // 4):
            tile = decode_piece(self.exact, z[:, first : first + TILE // 4 + 1])
            row.append(tile if first == 0 else tile[:, 1:])
        parts = [row[0][:, : STRIDE + 1]]
        for i in range(1, len(row)):
            over = min(row[i - 1].shape[1], row[i].shape[1], TILE - STRIDE)
            if over:
                share = (torch.arange(over, device=z.device) / over)[:, None, None, None]
                mixed = torch.lerp(row[i - 1][:, -over:], row[i][:, :over], share)
                row[i] = torch.cat([mixed, row[i][:, over:]], 1)
            parts.append(row[i][:, :STRIDE])
        return torch.cat(parts, 1)


# ---- one piece


def encode_piece(w: Weights, x: torch.Tensor) -> torch.Tensor:
    """Pixels in -1..1 to means and logarithms of variances [batch, time, rows, columns, 32]."""
    x = _conv(w, "encoder.conv_in", x)
    for i, stride in enumerate(((1, 2), (2, 2), (2, 2), None)):
        x = _resnet(w, f"encoder.down_blocks.{i}.resnets.0", x)
        if stride:
            x = _conv(w, f"encoder.down_blocks.{i}.downsamplers.0.conv", x, stride)
    for i in range(2):
        x = _resnet(w, f"encoder.mid_block.resnets.{i}", x)
    x = _conv(w, "encoder.conv_out", _norm(w, "encoder.conv_norm_out", x))
    return linear(w, "quant_conv", x)


def decode_piece(w: Weights, x: torch.Tensor) -> torch.Tensor:
    """Latents [batch, time, rows, columns, 16] to pixels in -1..1."""
    x = _conv(w, "decoder.conv_in", linear(w, "post_quant_conv", x))
    for i in range(2):
        x = _resnet(w, f"decoder.mid_block.resnets.{i}", x)
    for i, time in enumerate((1, 2, 2, None)):
        for j in range(2):
            x = _resnet(w, f"decoder.up_blocks.{i}.resnets.{j}", x)
        if time:
            x = _conv(w, f"decoder.up_blocks.{i}.upsamplers.0.conv", _larger(x, time))
    return _conv(w, "decoder.conv_out", _norm(w, "decoder.conv_norm_out", x))


def _norm(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    """Group normalisation of two groups, and SiLU."""
    x = F.group_norm(x.permute(0, 4, 1, 2, 3), 2, w[name + ".weight"], w[name + ".bias"], 1e-6)
    return F.silu(x).permute(0, 2, 3, 4, 1)


def _resnet(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    h = _conv(w, name + ".conv1", _norm(w, name + ".norm1", x))
    h = _conv(w, name + ".conv2", _norm(w, name + ".norm2", h))
    if name + ".conv_shortcut.conv.weight" in w:
        x = linear(w, name + ".conv_shortcut.conv", x)
    return x + h


def _larger(x: torch.Tensor, time: int) -> torch.Tensor:
    """Nearest neighbours, twice as large; in time the first frame stays one."""
    if time == 2:
        x = torch.cat([x[:, :1], x[:, 1:].repeat_interleave(2, 1)], 1)
    batch, frames, height, width, channels = x.shape
    x = x[:, :, :, None, :, None].expand(batch, frames, height, 2, width, 2, channels)
    return x.reshape(batch, frames, 2 * height, 2 * width, channels)


def _conv(w: Weights, name: str, x: torch.Tensor, stride: tuple[int, int] = (1, 1)) -> torch.Tensor:
    """A causal convolution; `stride` in time and in space."""
    weight, bias = w[name + ".conv.weight"], w[name + ".conv.bias"]
    time, space = stride
    batch = len(x)
    x = _StackTime.apply(x, time)
    frames = x.shape[1]
    weight = weight.permute(0, 2, 1, 3, 4).flatten(1, 2)
    weight = weight.contiguous(memory_format=torch.channels_last)
    x = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), weight, bias, space)
    return x.permute(0, 2, 3, 1).unflatten(0, (batch, frames))


class _StackTime(torch.autograd.Function):
    """The three frames that a causal tap in time sees, as 3 x channels, edges repeated.

    x [batch, time, height, width, channels] to [batch, frames, height + 2, width + 2, 3 channels]:
    one row and column more on every side, and the first frame twice before. Output o sees the
    frames stride * o - 2 ... stride * o. Written out because autograd would keep every slice.
    """

    @staticmethod
    def forward(ctx: object, x: torch.Tensor, stride: int) -> torch.Tensor:
        batch, time, height, width, channels = x.shape
        ctx.shape, ctx.stride = x.shape, stride
        frames = (time - 1) // stride + 1
        out = x.new_empty(batch, frames, height + 2, width + 2, 3 * channels)
        inner = out[:, :, 1:-1, 1:-1]
        for tap in range(3):
            part = inner[..., tap * channels : (tap + 1) * channels]
            begin, early = _tap_course(tap, stride)
            part[:, early:] = x[:, begin::stride][:, : frames - early]
            part[:, :early] = x[:, :1]
        out[:, :, 0, 1:-1] = out[:, :, 1, 1:-1]
        out[:, :, -1, 1:-1] = out[:, :, -2, 1:-1]
        out[:, :, :, 0] = out[:, :, :, 1]
        out[:, :, :, -1] = out[:, :, :, -2]
        return out

    @staticmethod
    def backward(ctx: object, g: torch.Tensor) -> tuple[torch.Tensor, None]:
        channels, stride = ctx.shape[-1], ctx.stride
        rows = g[:, :, :, 1:-1].clone(memory_format=torch.contiguous_format)
        rows[:, :, :, 0] += g[:, :, :, 0]
        rows[:, :, :, -1] += g[:, :, :, -1]
        inner = rows[:, :, 1:-1]
        inner[:, :, 0] += rows[:, :, 0]
        inner[:, :, -1] += rows[:, :, -1]
        out = g.new_zeros(ctx.shape)
        frames = inner.shape[1]
        for tap in range(3):
            part = inner[..., tap * channels : (tap + 1) * channels]
            begin, early = _tap_course(tap, stride)
            out[:, begin::stride][:, : frames - early] += part[:, early:]
            if early:
                out[:, 0] += part[:, :early].sum(1)
        return out, None


def _tap_course(tap: int, stride: int) -> tuple[int, int]:
    """First frame that a tap (0: two frames ago, 2: now) sees of itself, and outputs before that.

    Those see the first frame instead.
    """
    early = 0
    while stride * early + tap - 2 < 0:
        early += 1
    return stride * early + tap - 2, early
