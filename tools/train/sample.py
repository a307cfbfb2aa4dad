"""Paints prompts with a model folder or a training state through diffusers: a look at progress.

One PNG per prompt, or all of them side by side with --sheet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from export import load_average
from PIL import Image


def paint(
    pipe: FluxPipeline, prompt: str, args: argparse.Namespace, index: int
) -> np.ndarray:
    """One picture [side, side, 3], 8 bits."""
    generator = torch.Generator("cpu").manual_seed(args.seed + index)
    device = pipe.transformer.device.type
    with torch.autocast(device, torch.bfloat16, enabled=args.bf16):
        picture = pipe(
            prompt,
            negative_prompt="",
            true_cfg_scale=args.guidance,
            height=args.side,
            width=args.side,
            num_inference_steps=args.steps,
            max_sequence_length=36,
            generator=generator,
            output_type="np",
        ).images[0]
    return np.round(np.nan_to_num(picture) * 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True)
    add("--state", type=Path, help="training state, instead of the folder's own weights")
    add("--prompts", type=Path, required=True, help="text file, one prompt a line")
    add("--output", type=Path, required=True, help="folder for PNG files named by line number")
    add("--sheet", type=Path, help="also write all pictures side by side into this file")
    add("--side", type=int, default=512)
    add("--steps", type=int, default=30)
    add("--guidance", type=float, default=3.0)
    add("--seed", type=int, default=0)
    add("--limit", type=int, default=None, help="only so many prompts")
    add("--bf16", action="store_true", help="autocast: faster, nearly the same pictures")
    args = parser.parse_args()
    pipe = FluxPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    if args.state:
        load_average(pipe, args.state)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True)
    args.output.mkdir(parents=True, exist_ok=True)
    prompts = args.prompts.read_text(encoding="utf-8").splitlines()[: args.limit]
    pictures = []
    for index, prompt in enumerate(prompts):
        pictures.append(paint(pipe, prompt, args, index))
        Image.fromarray(pictures[-1]).save(args.output / f"{index:02d}.png")
        print(f"{index:02d} {prompt}", flush=True)
    if args.sheet:
        Image.fromarray(np.concatenate(pictures, axis=1)).save(args.sheet)


if __name__ == "__main__":
    main()
