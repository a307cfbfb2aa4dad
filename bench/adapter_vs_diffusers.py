#!/usr/bin/env python3
"""tamias.accelerate beside diffusers' own caches, over the same pipeline of diffusers, in one run.

For each prompt: the plain pipeline, then accelerated with each profile and with all of sparsity off (what the
adapter costs and our attention gains), fewer plain steps, the first-block cache and TaylorSeer, then the
plain pipeline again. Speed-ups are relative to the plain pipeline (the mean of its two runs around the
others), likeness is to its pictures. Only denoising is timed. PyTorch's threads must not spin while ours
work: the program sets OMP_WAIT_POLICY=passive.

    PYTHONPATH=build/release/python python bench/adapter_vs_diffusers.py --prompts 2 --output out/adapter.json
    ... --model models/demo-video --profiles demo-video --prompt-file tools/quality/motion_prompts.txt

Needs the Python package, torch==2.13.0 (CPU), diffusers 0.42, transformers, numpy and pillow.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import tamias
import torch
from diffusers import __version__ as diffusers_version
from diffusers_peer import Diffusers, cache_candidates, rows_of
from generation import ROOT, read_prompts


@contextmanager
def cached(transformer, config):
    transformer.enable_cache(config)
    try:
        yield
    finally:
        transformer.disable_cache()


def candidates(peer: Diffusers, arguments) -> dict[str, tuple[int, Callable[[], AbstractContextManager]]]:
    """By name the steps of a generation and what to run it in."""
    steps, pipeline = arguments.steps, peer.pipeline
    rows = {"tamias, sparsity off": (steps, lambda: tamias.accelerate(pipeline, "off"))}
    for profile in arguments.profiles:
        rows[f"tamias, {profile}"] = steps, lambda profile=profile: tamias.accelerate(pipeline, profile)
    for fewer in arguments.fewer_steps:
        rows[f"diffusers, {fewer} steps"] = fewer, nullcontext
    for name, config in cache_candidates(steps, None).items():
        rows[f"diffusers, {name}"] = steps, lambda config=config: cached(peer.transformer, config)
    return rows


def measure_prompt(peer: Diffusers, arguments, prompt: str, seed: int) -> tuple[list[dict], dict[str, str]]:
    """Rows of the table, and why candidates failed."""
    first = peer.run(prompt, seed, arguments.steps)
    runs, failures = {}, {}
    for name, (steps, context) in candidates(peer, arguments).items():
        try:
            with context():
                runs[name] = peer.run(prompt, seed, steps)
        except Exception as error:  # a cache that does not serve this model is a result, too
            failures[name] = f"{type(error).__name__}: {error}"
    last = peer.run(prompt, seed, arguments.steps)
    dense = (first["seconds"] + last["seconds"]) / 2
    runs = {f"diffusers, {arguments.steps} steps": last} | runs
    rows = rows_of(prompt, runs, dense, first)
    for row in rows:
        print(json.dumps(row), file=sys.stderr)
    return rows, failures


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo-flux")
    parser.add_argument("--profiles", nargs="*", default=["demo", "demo-tuned"])
    parser.add_argument("--prompt-file", type=Path, default=ROOT / "tools/quality/prompts.txt")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--fewer-steps", type=int, nargs="*", default=[12])
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    peer = Diffusers(arguments.model)
    rows, failures = [], {}
    for seed, prompt in enumerate(read_prompts(arguments.prompt_file, arguments.prompts)):
        more, failed = measure_prompt(peer, arguments, prompt, seed)
        rows += more
        failures |= failed
    table = []
    for name in dict.fromkeys(row["candidate"] for row in rows):
        of_name = [row for row in rows if row["candidate"] == name]
        table.append(
            {
                "candidate": name,
                "speedup": statistics.median(row["speedup"] for row in of_name),
                "psnr": statistics.mean(row["psnr"] for row in of_name),
                "ssim": statistics.mean(row["ssim"] for row in of_name),
            }
        )
    machine = tamias.machine_name()
    versions = (
        f"torch {torch.__version__}, diffusers {diffusers_version}, tamias {tamias.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"{machine}; {versions}; {arguments.prompts} prompts\n")
    print("| candidate | speed-up over diffusers dense | PSNR dB | SSIM |\n| --- | --- | --- | --- |")
    for row in table:
        print(f"| {row['candidate']} | {row['speedup']:.2f}x | {row['psnr']:.2f} | {row['ssim']:.4f} |")
    for name, reason in failures.items():
        print(f"did not run: {name}: {reason}")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "machine": machine,
            "versions": versions,
            "table": table,
            "failures": failures,
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
