"""The picture demo's AutoencoderKL in plain PyTorch: pixels to normalised tokens and back.

8 bits in, 8 bits out: what training and judging need. `train_vae.py` trains it as diffusers' class.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from flux_model import pack, unpack
from safetensors.torch import load_file
from weights import VAE_FILE, Weights


class PictureVae:
    """The VAE of a model folder, in fp32; encodes in `encode_type`."""

    def __init__(self, folder: Path, device: object, encode_type: torch.dtype) -> None:
        config = json.loads((Path(folder) / "vae/config.json").read_text(encoding="utf-8"))
        self.shift, self.scale = config["shift_factor"], config["scaling_factor"]
        tensors = load_file(str(Path(folder) / VAE_FILE))
        self._exact = {k: v.to(device, torch.float32) for k, v in tensors.items()}
        self._type = encode_type
        self._fast = {k: v.to(encode_type) for k, v in self._exact.items()}

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Bytes [batch, side, side, 3] to normalised tokens [batch, (side / 8)^2, 32], fp32."""
        w = self._fast
        x = pictures.permute(0, 3, 1, 2).to(self._type).contiguous() / 127.5 - 1
        x = _conv(w, "encoder.conv_in", x, padding=1)
        for i in range(3):
            x = _resnet(w, f"encoder.down_blocks.{i}.resnets.0", x)
            if i < 2:
                down = f"encoder.down_blocks.{i}.downsamplers.0.conv"
                x = _conv(w, down, F.pad(x, (0, 1, 0, 1)), stride=2)
        for i in range(2):
            x = _resnet(w, f"encoder.mid_block.resnets.{i}", x)
        x = _conv(w, "encoder.conv_out", _norm(w, "encoder.conv_norm_out", x), padding=1)
        return pack((x.chunk(2, 1)[0].float() - self.shift) * self.scale)

    @torch.no_grad()
    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Normalised tokens [batch, tokens, 32] to bytes [batch, side, side, 3]."""
        w = self._exact
        x = _conv(w, "decoder.conv_in", unpack(tokens.float()) / self.scale + self.shift, padding=1)
        for i in range(2):
            x = _resnet(w, f"decoder.mid_block.resnets.{i}", x)
        for i in range(3):
            for j in range(2):
                x = _resnet(w, f"decoder.up_blocks.{i}.resnets.{j}", x)
            if i < 2:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
                x = _conv(w, f"decoder.up_blocks.{i}.upsamplers.0.conv", x, padding=1)
        x = _conv(w, "decoder.conv_out", _norm(w, "decoder.conv_norm_out", x), padding=1)
        x = (x / 2 + 0.5).clamp(0, 1).nan_to_num()
        return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _conv(w: Weights, name: str, x: torch.Tensor, **options: int) -> torch.Tensor:
    return F.conv2d(x, w[name + ".weight"], w[name + ".bias"], **options)


def _norm(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    """Group normalisation of eight groups, and SiLU."""
    return F.silu(F.group_norm(x, 8, w[name + ".weight"], w[name + ".bias"], 1e-6))


def _resnet(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    h = _conv(w, name + ".conv1", _norm(w, name + ".norm1", x), padding=1)
    h = _conv(w, name + ".conv2", _norm(w, name + ".norm2", h), padding=1)
    if name + ".conv_shortcut.weight" in w:
        x = _conv(w, name + ".conv_shortcut", x)
    return x + h
