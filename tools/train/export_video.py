"""Writes the video demo in diffusers' layout, in fp16, from its VAE, tokenizers and a training state.

The result loads with HunyuanVideoPipeline.from_pretrained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
)
from export import folder_megabytes, load_average, remove_local_paths
from hunyuan_model import DemoHunyuan
from train_video import FLOW_SHIFT
from trainer import load_tokenizers

COMPONENTS = {"transformer": "transformer", "llama": "text_encoder", "clip": "text_encoder_2"}


def assemble(model: Path, vae: Path, state: Path) -> HunyuanVideoPipeline:
    """The pipeline of a training state, in fp32."""
    tokenizer, tokenizer_2 = load_tokenizers(model)
    networks = DemoHunyuan.from_nothing(tokenizer, tokenizer_2)
    pipe = HunyuanVideoPipeline(
        transformer=networks.transformer,
        text_encoder=networks.llama,
        text_encoder_2=networks.clip,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        vae=AutoencoderKLHunyuanVideo.from_pretrained(vae),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT),
    )
    load_average(pipe, state, COMPONENTS)
    return pipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder with the tokenizers")
    add("--vae", type=Path, required=True, help="folder written by train_vae.py")
    add("--state", type=Path, required=True, help="state of train_video.py")
    add("--output", type=Path, required=True)
    args = parser.parse_args()
    pipe = assemble(args.model, args.vae, args.state)
    pipe.to(torch.float16).save_pretrained(args.output)
    remove_local_paths(args.output)
    print(f"{args.output}: {folder_megabytes(args.output):.1f} MB")


if __name__ == "__main__":
    main()
