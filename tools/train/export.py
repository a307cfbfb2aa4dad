"""Writes a training state into a copy of the model folder that training began from, in fp16.

Transformer and text encoders become the moving average of the state's weights. VAE, tokenizers,
scheduler and configs stay.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from trainer import MODELS
from weights import save_parts


def export(model: Path, state: Path, output: Path) -> None:
    """Copies `model` to `output` with the averages of `state` in place of its weights."""
    saved = torch.load(state, map_location="cpu")
    shutil.copytree(model, output, dirs_exist_ok=True)
    save_parts(saved["average"], MODELS[saved["kind"]].files, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder that training began from")
    parser.add_argument(
        "--state", type=Path, required=True, help="of train_flux.py or train_video.py"
    )
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    export(args.model, args.state, args.output)
    size = sum(f.stat().st_size for f in args.output.rglob("*") if f.is_file()) / 1e6
    print(f"{args.output}: {size:.1f} MB")


if __name__ == "__main__":
    main()
