"""What sample.py and sample_video.py share: options, pipeline, prompt after prompt through it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from export import load_average


def make_parser(
    description: str, what: str, side: int, output: str, sheet: str
) -> argparse.ArgumentParser:
    """The options of both; `output` and `sheet` say what these options name."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--model", type=Path, required=True)
    add("--state", type=Path, help="training state, instead of the folder's own weights")
    add("--prompts", type=Path, required=True, help="text file, one prompt a line")
    add("--output", type=Path, required=True, help=output)
    add("--sheet", type=Path, help=sheet)
    add("--side", type=int, default=side)
    add("--steps", type=int, default=30)
    add("--guidance", type=float, default=3.0)
    add("--seed", type=int, default=0)
    add("--limit", type=int, default=None, help="only so many prompts")
    add("--bf16", action="store_true", help=f"autocast: faster, nearly the same {what}")
    return parser


def load_pipeline(
    kind: type[DiffusionPipeline], args: argparse.Namespace, components: Mapping[str, str]
) -> DiffusionPipeline:
    """The pipeline of --model in fp32, with the weights of --state if there is one."""
    pipe = kind.from_pretrained(args.model, torch_dtype=torch.float32)
    if args.state:
        load_average(pipe, args.state, components)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample(
    pipe: DiffusionPipeline, prompt: str, seed: int, args: argparse.Namespace, **options: int
) -> np.ndarray:
    """One picture [side, side, 3] or film [frames, side, side, 3], 8 bits."""
    generator = torch.Generator("cpu").manual_seed(seed)
    with torch.autocast(pipe.transformer.device.type, torch.bfloat16, enabled=args.bf16):
        batch = pipe(
            prompt,
            negative_prompt="",
            true_cfg_scale=args.guidance,
            height=args.side,
            width=args.side,
            num_inference_steps=args.steps,
            generator=generator,
            output_type="np",
            **options,
        )[0]
    return np.round(np.nan_to_num(batch[0]) * 255).astype(np.uint8)


def sample_prompts(
    pipe: DiffusionPipeline, args: argparse.Namespace, **options: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The number of each prompt and what came of it; prints the prompt once that is written."""
    prompts = args.prompts.read_text(encoding="utf-8").splitlines()[: args.limit]
    for index, prompt in enumerate(prompts):
        yield index, sample(pipe, prompt, args.seed + index, args, **options)
        print(f"{index:02d} {prompt}", flush=True)
