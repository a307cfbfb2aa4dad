#!/usr/bin/env python3
"""A dense step of FLUX.1-dev on this CPU beside stable-diffusion.cpp, projected from models of its width with few blocks.

Transformers with random bf16 weights and two or three blocks make a few steps in both programs, turn and turn about.
The text is 256 tokens: ours of the small encoder of this repository, theirs zeros, since they are given no T5. The
time of a step follows from the published number of blocks; that is a projection.

    python bench/beside_sd_cpp.py --sd-cli /path/to/sd-cli --output out/beside_sd_cpp.json

--their-types are those that their weights are converted to when they are loaded. Needs what the tests need, 5 GB in the
temporary folder and some minutes.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from full_size_steps import DENSE_STEPS, MODELS, ROOT, Steps, extrapolated
from random_models import WEIGHTS, Tensors, make, write_tensors

PUBLISHED = MODELS["flux"]
TEXT_TOKENS = 256  # of theirs without encoders
# A picture of this many pixels on a side: tokens are of 16x16 pixels, ours, with the demo model's VAE, of 8x8.
OUR_PIXELS, THEIR_PIXELS = 8, 16
TRANSFORMER, CLIP = "flux1-dev.safetensors", "clip_l.safetensors"
PROGRESS = re.compile(rb"(\d+)/(\d+) - ([\d.]+)(s/it|it/s)")


def size_options(side: int) -> list:
    return ["--width", side, "--height", side]


def original_tensors(double_blocks: int, single_blocks: int) -> Tensors:
    """The transformer in the names of FLUX.1-dev's single file, which is what they read."""
    d, head = 3072, 128
    tensors = Tensors()
    for name, inputs in {"img_in": 64, "txt_in": 4096}.items():
        tensors.add(name, d, inputs)
    for name, inputs in {"time_in": 256, "guidance_in": 256, "vector_in": 768}.items():
        tensors.add(f"{name}.in_layer", d, inputs)
        tensors.add(f"{name}.out_layer", d, d)

    def scales(prefix: str) -> None:
        for name in ("query_norm", "key_norm"):
            tensors[f"{prefix}.norm.{name}.scale"] = [head]

    for i in range(double_blocks):
        for stream in (f"double_blocks.{i}.img", f"double_blocks.{i}.txt"):
            tensors.add(f"{stream}_mod.lin", 6 * d, d)
            tensors.add(f"{stream}_attn.qkv", 3 * d, d)
            tensors.add(f"{stream}_attn.proj", d, d)
            scales(f"{stream}_attn")
            tensors.add(f"{stream}_mlp.0", 4 * d, d)
            tensors.add(f"{stream}_mlp.2", d, 4 * d)
    for i in range(single_blocks):
        block = f"single_blocks.{i}"
        tensors.add(f"{block}.modulation.lin", 3 * d, d)
        tensors.add(f"{block}.linear1", 7 * d, d)
        tensors.add(f"{block}.linear2", d, 5 * d)
        scales(block)
    tensors.add("final_layer.adaLN_modulation.1", 2 * d, d)
    tensors.add("final_layer.linear", 64, d)
    return tensors


def clip_tensors() -> Tensors:
    """CLIP-L, without which they do not begin; of T5 they do without."""
    d = 768
    tensors = Tensors({"text_model.embeddings.token_embedding.weight": [49408, d]})
    tensors["text_model.embeddings.position_embedding.weight"] = [77, d]
    for i in range(12):
        layer = f"text_model.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors.add(f"{layer}.self_attn.{name}", d, d)
        tensors.add(f"{layer}.mlp.fc1", 4 * d, d)
        tensors.add(f"{layer}.mlp.fc2", d, 4 * d)
        for name in ("layer_norm1", "layer_norm2"):
            tensors.add(f"{layer}.{name}", d)
    tensors.add("text_model.final_layer_norm", d)
    return tensors


def their_seconds(sd_cli: Path, folder: Path, side: int, steps: int, dtype: str) -> float:
    """The median of the steps but the first; ends the program when they are made, before it decodes."""
    name, _, flash = dtype.partition("+")
    command = [
        *(sd_cli, "--diffusion-model", folder / TRANSFORMER, "--vae", folder / "vae" / WEIGHTS, "--clip_l", folder / CLIP),
        *("--prompt", "a star", "--cfg-scale", 1, "--sampling-method", "euler", "--steps", steps, *size_options(side)),
        *("--type", name, "--threads", len(os.sched_getaffinity(0)), "--output", folder / "theirs.png"),
        *(("--diffusion-fa",) if flash else ()),
    ]
    seconds: dict[int, float] = {}
    printed = b""
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while len(seconds) < steps and (data := os.read(process.stdout.fileno(), 4096)):
            printed = (printed + data)[-8192:]
            for step, count, number, unit in PROGRESS.findall(printed):
                if int(count) == steps:
                    seconds[int(step)] = float(number) if unit == b"s/it" else 1 / float(number)
        process.kill()
    if len(seconds) < steps:
        sys.exit(f"beside_sd_cpp.py: {sd_cli} ended early: {printed.decode(errors='replace')[-800:]}")
    return statistics.median(seconds[step] for step in range(2, steps + 1))


def measure(arguments: argparse.Namespace, folder: Path, blocks: tuple[int, ...]) -> dict[str, float]:
    """Seconds of a dense step by program and type, the median of all rounds."""
    ours, theirs = folder / "ours", folder / "theirs"
    ours.mkdir()
    make(ours, PUBLISHED.with_blocks(*blocks))
    # A VAE of zeros, which they want to see and do not come to use.
    subprocess.run([sys.executable, ROOT / "tools/make_empty_checkpoint.py", "flux-1-dev", theirs], check=True)
    write_tensors(theirs / CLIP, clip_tensors())
    write_tensors(theirs / TRANSFORMER, original_tensors(*blocks))
    options = [*size_options(arguments.size * OUR_PIXELS // THEIR_PIXELS), "--max-sequence-length", TEXT_TOKENS]
    times: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for dtype in arguments.our_types:
            steps = Steps(arguments.program, dtype, folder)
            dense, _ = steps.seconds(ours, "off", *options, "--steps", DENSE_STEPS)
            times.setdefault(f"Tamias {dtype}", []).extend(dense.values())
        for dtype in arguments.their_types:
            seconds = their_seconds(arguments.sd_cli, theirs, arguments.size, DENSE_STEPS, dtype)
            times.setdefault(f"stable-diffusion.cpp {dtype}", []).append(seconds)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sd-cli", type=Path, required=True, help="their program")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/tamias")
    parser.add_argument("--our-types", nargs="+", choices=("f32", "bf16"), default=["f32"])
    parser.add_argument(
        "--their-types",
        nargs="+",
        default=["f32+fa", "f16+fa", "q8_0+fa"],
        help="of --type; with +fa their --diffusion-fa, too",
    )
    parser.add_argument("--size", type=int, default=512, help="pixels on a side")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    runs = {}
    for blocks in ((1, 1), (2, 1), (1, 2)):
        with tempfile.TemporaryDirectory(prefix="tamias-beside-") as folder:
            runs[blocks] = measure(arguments, Path(folder), blocks)
    step = extrapolated(runs, PUBLISHED)
    best = min(seconds for name, seconds in step.items() if name.startswith("Tamias"))
    print(f"| dense step of FLUX.1-dev, {arguments.size}x{arguments.size} | seconds, projected | over our fastest |")
    print("| --- | ---: | ---: |")
    for name, seconds in step.items():
        print(f"| {name} | {seconds:.1f} | {seconds / best:.2f} |")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        measured = [{"blocks": blocks, "seconds": seconds} for blocks, seconds in runs.items()]
        arguments.output.write_text(json.dumps({"measured": measured, "projected_step": step}, indent=1))


if __name__ == "__main__":
    main()
