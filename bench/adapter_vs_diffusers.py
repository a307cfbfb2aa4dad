#!/usr/bin/env python3
"""tamias.accelerate beside diffusers' own caches and cache-dit, over the same pipeline of diffusers, in one run.

For each prompt: the plain pipeline, then accelerated with each profile and with all of sparsity off (what the
adapter costs and our attention gains), fewer plain steps, the first-block cache, TaylorSeer and MagCache
(with ratios from one calibration run of this model), cache-dit's DBCache with and without TaylorSeer where
that package can be imported, then the plain pipeline again. Speed-ups are relative to the plain pipeline (the mean of its two runs around the
others), likeness is to its pictures. Only denoising is timed. PyTorch's threads must not spin while ours
work: the program sets OMP_WAIT_POLICY=passive.

    PYTHONPATH=build/release/python python bench/adapter_vs_diffusers.py --prompts 2 --output out/adapter.json
    ... --model models/demo-video --profiles demo-video --prompt-file tools/quality/motion_prompts.txt

Needs the Python package, torch==2.13.0 (CPU), diffusers 0.42, transformers, numpy and pillow; for its rows
cache-dit 1.5.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import tamias
import torch
from diffusers import __version__ as diffusers_version
from diffusers_peer import Diffusers, cache_candidates, calibrate_magcache, rows_of
from generation import ROOT, read_prompts


@contextmanager
def cached(transformer, config):
    transformer.enable_cache(config)
    try:
        yield
    finally:
        transformer.disable_cache()


@contextmanager
def cached_by_cache_dit(pipeline, cache_config, calibrator_config):
    import cache_dit

    cache_dit.enable_cache(pipeline, cache_config=cache_config, calibrator_config=calibrator_config)
    try:
        yield
    finally:
        cache_dit.disable_cache(pipeline)


def cache_dit_candidates(peer: Diffusers, steps: int) -> dict[str, Callable[[], AbstractContextManager]]:
    """DBCache that decides by the first block, at two thresholds; by name what to run it in."""
    from cache_dit import DBCacheConfig, TaylorSeerCalibratorConfig

    rows = {}
    for threshold in (0.08, 0.24):
        for name, calibrator in (
            ("", None),
            (" with TaylorSeer", TaylorSeerCalibratorConfig(taylorseer_order=1)),
        ):
            config = DBCacheConfig(
                Fn_compute_blocks=1,
                Bn_compute_blocks=0,
                max_warmup_steps=4,
                residual_diff_threshold=threshold,
                num_inference_steps=steps,
                # Guidance in two calls, whose caches are apart; in one call of two they are one.
                enable_separate_cfg=peer.calls_twice,
            )
            rows[f"DBCache {threshold}{name}"] = lambda config=config, calibrator=calibrator: (
                cached_by_cache_dit(peer.pipeline, config, calibrator)
            )
    return rows


@dataclass
class Candidate:
    """A generation of so many steps by this peer, and what to run it in."""

    peer: Diffusers
    steps: int
    context: Callable[[], AbstractContextManager]


def candidates(peer: Diffusers, patched: Diffusers | None, arguments, mag_ratios) -> dict[str, Candidate]:
    """By name. patched: the peer for cache-dit, which does not give a transformer back as it was."""
    steps, pipeline = arguments.steps, peer.pipeline
    rows = {"tamias, sparsity off": Candidate(peer, steps, lambda: tamias.accelerate(pipeline, "off"))}
    for profile in arguments.profiles:
        rows[f"tamias, {profile}"] = Candidate(
            peer, steps, lambda profile=profile: tamias.accelerate(pipeline, profile)
        )
    for fewer in arguments.fewer_steps:
        rows[f"diffusers, {fewer} steps"] = Candidate(peer, fewer, nullcontext)
    for name, config in cache_candidates(steps, mag_ratios).items():
        rows[f"diffusers, {name}"] = Candidate(
            peer, steps, lambda config=config: cached(peer.transformer, config)
        )
    if patched is not None:
        for name, context in cache_dit_candidates(patched, steps).items():
            rows[f"cache-dit, {name}"] = Candidate(patched, steps, context)
    return rows


def measure_prompt(
    peer: Diffusers, patched: Diffusers | None, arguments, mag_ratios, prompt: str, seed: int
) -> tuple[list[dict], dict[str, str]]:
    """Rows of the table, and why candidates failed."""
    first = peer.run(prompt, seed, arguments.steps)
    runs, failures = {}, {}
    for name, candidate in candidates(peer, patched, arguments, mag_ratios).items():
        try:
            with candidate.context():
                runs[name] = candidate.peer.run(prompt, seed, candidate.steps)
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
    has_cache_dit = importlib.util.find_spec("cache_dit") is not None
    patched = Diffusers(arguments.model) if has_cache_dit else None
    rows, failures = [], {}
    prompts = read_prompts(arguments.prompt_file, arguments.prompts)
    mag_ratios = calibrate_magcache(peer, prompts[0], arguments.steps)
    for seed, prompt in enumerate(prompts):
        more, failed = measure_prompt(peer, patched, arguments, mag_ratios, prompt, seed)
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
    others = f", cache-dit {version('cache-dit')}" if has_cache_dit else ""
    versions = (
        f"torch {torch.__version__}, diffusers {diffusers_version}, tamias {tamias.__version__}{others}, "
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
