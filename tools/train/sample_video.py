"""Films prompts with the video demo through diffusers: a look at progress.

Writes OUTPUT/00/0000.png, ... for the first prompt and so on; --sheet draws seven frames of every
film, one film a row.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import HunyuanVideoPipeline
from export import load_average
from export_video import COMPONENTS
from PIL import Image

SHEET_FRAMES = 7


def film(
    pipe: HunyuanVideoPipeline, prompt: str, args: argparse.Namespace, index: int
) -> np.ndarray:
    """One film [frames, side, side, 3], 8 bits."""
    generator = torch.Generator("cpu").manual_seed(args.seed + index)
    with torch.autocast(pipe.transformer.device.type, torch.bfloat16, enabled=args.bf16):
        frames = pipe(
            prompt,
            negative_prompt="",
            true_cfg_scale=args.guidance,
            height=args.side,
            width=args.side,
            num_frames=args.frames,
            num_inference_steps=args.steps,
            max_sequence_length=32,
            generator=generator,
            output_type="np",
        ).frames[0]
    return np.round(np.nan_to_num(frames) * 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True)
    add("--state", type=Path, help="training state, instead of the folder's own weights")
    add("--prompts", type=Path, required=True, help="text file, one prompt a line")
    add("--output", type=Path, required=True, help="folder for folders of frames")
    add("--sheet", type=Path, help="also write some frames of all films into this file")
    add("--side", type=int, default=128)
    add("--frames", type=int, default=33)
    add("--steps", type=int, default=30)
    add("--guidance", type=float, default=3.0)
    add("--seed", type=int, default=0)
    add("--limit", type=int, default=None, help="only so many prompts")
    add("--bf16", action="store_true", help="autocast: faster, nearly the same films")
    args = parser.parse_args()
    pipe = HunyuanVideoPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    if args.state:
        load_average(pipe, args.state, COMPONENTS)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True)
    prompts = args.prompts.read_text(encoding="utf-8").splitlines()[: args.limit]
    rows = []
    for index, prompt in enumerate(prompts):
        frames = film(pipe, prompt, args, index)
        folder = args.output / f"{index:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / f"{number:04d}.png")
        shown = np.linspace(0, len(frames) - 1, SHEET_FRAMES).round().astype(int)
        rows.append(np.concatenate(list(frames[shown]), axis=1))
        if args.sheet:
            Image.fromarray(np.concatenate(rows)).save(args.sheet)
        print(f"{index:02d} {prompt}", flush=True)


if __name__ == "__main__":
    main()
