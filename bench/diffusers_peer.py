#!/usr/bin/env python3
"""diffusers on PyTorch beside Tamias, same folder, same noise, same threads, in one run.

For each prompt: Tamias dense, then diffusers dense, with fewer steps and with its own caches (first-block
cache, MagCache, TaylorSeer), then Tamias dense again. Speed-ups are relative to Tamias dense (the mean of
its two runs around the others), likeness to the 50-step dense picture of the same library, so that nothing
is charged for the tiny difference between the two libraries, which is reported too.

    python bench/diffusers_peer.py --prompts 2 --output out/diffusers.json

Needs torch==2.13.0 (CPU), diffusers 0.42, transformers, numpy and pillow.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import FirstBlockCacheConfig, FluxPipeline, MagCacheConfig, TaylorSeerCacheConfig
from diffusers import __version__ as diffusers_version

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools/quality"))
from likeness import load, psnr, ssim  # noqa: E402


def run_diffusers(pipeline, prompt, seed, steps, defaults):
    """One picture: dict with the seconds of denoising and of the VAE, and the picture."""
    start = time.perf_counter()
    with torch.inference_mode():
        latents = pipeline(
            prompt=prompt,
            negative_prompt="",
            true_cfg_scale=defaults["true_cfg_scale"],
            max_sequence_length=defaults["max_sequence_length"],
            width=defaults["width"],
            height=defaults["height"],
            num_inference_steps=steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="latent",
        ).images
        denoised = time.perf_counter()
        unpacked = pipeline._unpack_latents(
            latents, defaults["height"], defaults["width"], pipeline.vae_scale_factor
        )
        unpacked = unpacked / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
        decode_start = time.perf_counter()
        pixels = pipeline.vae.decode(unpacked, return_dict=False)[0]
        decoded = time.perf_counter()
    picture = pipeline.image_processor.postprocess(pixels, output_type="np")[0]
    return {
        "seconds": denoised - start,
        "seconds_vae": decoded - decode_start,
        "picture": np.round(255 * picture) / 255,
    }


def run_tamias(arguments, prompt, seed, folder):
    png, report = folder / "picture.png", folder / "report.json"
    subprocess.run(
        [arguments.program, "generate", "--model", arguments.model, "--prompt", prompt, "--seed", str(seed),
         "--steps", str(arguments.steps), "--sparsity", "off", "--quiet", "--output", png, "--report", report,
         "--threads", str(torch.get_num_threads())],
        check=True,
    )
    return json.loads(report.read_text()), load(png)


def calibrate_magcache(pipeline, prompt, steps, defaults):
    """MagCache's magnitude ratios for this checkpoint, from one calibration run."""
    import logging

    ratios = []

    class Catch(logging.Handler):
        def emit(self, record):
            text = record.getMessage()
            if "[" in text and "]" in text:
                values = json.loads(text[text.index("[") : text.rindex("]") + 1])
                if len(values) > len(ratios):
                    ratios[:] = values

    logger = logging.getLogger("diffusers.hooks.mag_cache")
    handler = Catch()
    logger.addHandler(handler)
    level, logger.level = logger.level, logging.INFO
    pipeline.transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=steps))
    run_diffusers(pipeline, prompt, 1000, steps, defaults)
    pipeline.transformer.disable_cache()
    logger.removeHandler(handler)
    logger.setLevel(level)
    return ratios or None


def cache_candidates(steps, mag_ratios):
    candidates = {
        f"first-block cache {t}": FirstBlockCacheConfig(threshold=t) for t in (0.05, 0.1, 0.2)
    }
    candidates |= {
        f"TaylorSeer every {n}": TaylorSeerCacheConfig(
            cache_interval=n, taylor_factors_dtype=torch.float32, max_order=1
        )
        for n in (2, 4)
    }
    if mag_ratios:
        candidates |= {
            f"MagCache {t}": MagCacheConfig(
                threshold=t, num_inference_steps=steps, mag_ratios=mag_ratios, max_skip_steps=4
            )
            for t in (0.06, 0.24)
        }
    return candidates


def measure_prompt(arguments, pipeline, prompt, seed, defaults, caches, folder):
    steps = arguments.steps
    first, tamias_picture = run_tamias(arguments, prompt, seed, folder)
    reference = run_diffusers(pipeline, prompt, seed, steps, defaults)
    runs = {f"diffusers dense, {steps} steps": reference}
    for fewer in arguments.fewer_steps:
        runs[f"diffusers dense, {fewer} steps"] = run_diffusers(pipeline, prompt, seed, fewer, defaults)
    failures = {}
    for name, config in caches.items():
        pipeline.transformer.enable_cache(config)
        try:
            runs[f"diffusers, {name}"] = run_diffusers(pipeline, prompt, seed, steps, defaults)
        except Exception as error:  # a cache that does not serve this model is a result, too
            failures[name] = f"{type(error).__name__}: {error}"
        finally:
            pipeline.transformer.disable_cache()
    last, _ = run_tamias(arguments, prompt, seed, folder)
    dense = (first["seconds"]["denoise"] + last["seconds"]["denoise"]) / 2
    rows = [
        {
            "candidate": name,
            "prompt": prompt,
            "seconds": run["seconds"],
            "speedup": dense / run["seconds"],
            "psnr": min(99.0, psnr(reference["picture"], run["picture"])),
            "ssim": ssim(reference["picture"], run["picture"]),
        }
        for name, run in runs.items()
    ]
    peer = {
        "prompt": prompt,
        "tamias_dense_seconds": dense,
        "diffusers_dense_seconds": reference["seconds"],
        "dense_speedup_over_diffusers": reference["seconds"] / dense,
        "vae_speedup_over_diffusers": reference["seconds_vae"] / first["seconds"]["decode"],
        "psnr_between_libraries": psnr(reference["picture"], tamias_picture),
    }
    print(json.dumps(peer), file=sys.stderr)
    return rows, peer, failures, first["machine"]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo-flux")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/tamias")
    parser.add_argument("--prompt-file", type=Path, default=ROOT / "tools/quality/prompts.txt")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--fewer-steps", type=int, nargs="*", default=[25])
    parser.add_argument("--no-caches", action="store_true", help="dense and fewer steps only")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    defaults = json.loads((arguments.model / "tamias.json").read_text())
    pipeline = FluxPipeline.from_pretrained(arguments.model, torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    lines = arguments.prompt_file.read_text().splitlines()
    prompts = [line for line in lines if line and not line.startswith("#")][: arguments.prompts]
    caches = {}
    if not arguments.no_caches:
        caches = cache_candidates(
            arguments.steps, calibrate_magcache(pipeline, prompts[0], arguments.steps, defaults)
        )
    rows, peers, failures, machine = [], [], {}, ""
    with tempfile.TemporaryDirectory() as folder:
        for seed, prompt in enumerate(prompts):
            more, peer, failed, machine = measure_prompt(
                arguments, pipeline, prompt, seed, defaults, caches, Path(folder)
            )
            rows += more
            peers.append(peer)
            failures |= failed
    table = [
        {
            "candidate": name,
            "speedup": statistics.median(r["speedup"] for r in rows if r["candidate"] == name),
            "psnr": statistics.mean(r["psnr"] for r in rows if r["candidate"] == name),
            "ssim": statistics.mean(r["ssim"] for r in rows if r["candidate"] == name),
        }
        for name in dict.fromkeys(r["candidate"] for r in rows)
    ]
    versions = f"torch {torch.__version__}, diffusers {diffusers_version}, {torch.get_num_threads()} threads"
    print(f"{machine}; {versions}; {len(prompts)} prompts\n")
    print("| candidate | speed-up over Tamias dense | PSNR dB | SSIM |\n| --- | --- | --- | --- |")
    for row in table:
        print(f"| {row['candidate']} | {row['speedup']:.2f}x | {row['psnr']:.2f} | {row['ssim']:.4f} |")
    ratio = statistics.median(peer["dense_speedup_over_diffusers"] for peer in peers)
    vae = statistics.median(peer["vae_speedup_over_diffusers"] for peer in peers)
    print(f"\nTamias dense over diffusers dense: {ratio:.2f}x denoising, {vae:.2f}x VAE")
    for name, reason in failures.items():
        print(f"did not run: {name}: {reason}")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        result = {"machine": machine, "versions": versions, "peers": peers, "table": table,
                  "failures": failures, "rows": rows}
        arguments.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
