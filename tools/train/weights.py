"""Weights of a model folder as dictionaries of tensors, under the names of its safetensors files.

A model is its parts ("transformer", "clip", ...), each the tensors of one file. What is trained is
what is written: no other names, no other shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]
Parts = dict[str, Weights]
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"


def load_parts(folder: Path, files: Mapping[str, str], device: torch.device) -> Parts:
    """The files of a folder in fp32, ready for gradients."""
    return {
        part: {
            name: tensor.to(device, torch.float32).contiguous().requires_grad_()
            for name, tensor in load_file(str(Path(folder) / file)).items()
        }
        for part, file in files.items()
    }


def save_parts(parts: Parts, files: Mapping[str, str], folder: Path) -> list[Path]:
    """Writes fp16 files below a folder, as diffusers and transformers write them; returns them."""
    paths = []
    for part, tensors in parts.items():
        path = Path(folder) / files[part]
        path.parent.mkdir(parents=True, exist_ok=True)
        half = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in tensors.items()}
        save_file(half, str(path), metadata={"format": "pt"})
        paths.append(path)
    return paths


def named_weights(parts: Parts) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Part, name and tensor of all weights, in the order of the files."""
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            yield part, name, tensor


def like(parts: Parts, values: Mapping[tuple[str, str], torch.Tensor]) -> Parts:
    """The parts with other values for some (part, name); the others stay."""
    return {
        part: {name: values.get((part, name), w.detach()) for name, w in tensors.items()}
        for part, tensors in parts.items()
    }
