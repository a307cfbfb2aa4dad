"""Writes trained weights into a model folder in diffusers' layout, in fp16.

Takes the folder that training started from (for VAE, tokenizers, scheduler and configs), replaces
transformer and text encoders by the moving average of a training state, and, when given, the VAE's
decoder. The result loads with FluxPipeline.from_pretrained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, FluxPipeline

COMPONENTS = {"transformer": "transformer", "t5": "text_encoder_2", "clip": "text_encoder"}


def load_average(
    pipe: DiffusionPipeline, state: Path, components: Mapping[str, str] = COMPONENTS
) -> None:
    """Puts the averaged weights of a training state into a pipeline's transformer and encoders."""
    average = torch.load(state, map_location="cpu")["average"]
    for prefix, component in components.items():
        module = getattr(pipe, component)
        parameters = dict(module.named_parameters())
        for name, value in average.items():
            if name.startswith(prefix + "."):
                parameters.pop(name.removeprefix(prefix + ".")).data.copy_(value)
        if parameters:
            raise ValueError(f"{state} lacks weights of {component}: {sorted(parameters)[:3]}")


def remove_local_paths(folder: Path) -> None:
    """Configs remember the folder that they came from; a published model should not."""
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def folder_megabytes(folder: Path) -> float:
    """The size of all files below a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder that training began from")
    parser.add_argument("--state", type=Path, help="state of train_flux.py")
    parser.add_argument("--vae", type=Path, help="folder written by train_vae.py")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    pipe = FluxPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    if args.vae:
        pipe.register_modules(vae=type(pipe.vae).from_pretrained(args.vae))
    if args.state:
        load_average(pipe, args.state)
    pipe.to(torch.float16).save_pretrained(args.output)
    remove_local_paths(args.output)
    print(f"{args.output}: {folder_megabytes(args.output):.1f} MB")


if __name__ == "__main__":
    main()
