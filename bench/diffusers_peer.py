#!/usr/bin/env python3
"""diffusers on PyTorch beside Tamias, same folder, same noise, same threads, in one run.

For each prompt: Tamias dense and accelerated, then diffusers dense, with fewer steps and with its own caches
(first-block cache, MagCache, TaylorSeer), then Tamias dense again. Speed-ups are relative to Tamias dense
(the mean of its two runs around the others), likeness to the 50-step dense picture of the same library, so
that nothing is charged for the tiny difference between the two libraries, which is reported too.

    python bench/diffusers_peer.py --prompts 2 --output out/diffusers.json
    OMP_WAIT_POLICY=passive python bench/diffusers_peer.py --dtype bf16 --no-caches --profiles demo demo-tuned
    python bench/diffusers_peer.py --model models/demo-video --prompt-file tools/quality/motion_prompts.txt

Needs torch==2.13.0 (CPU), diffusers 0.42, transformers, numpy and pillow.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig
from diffusers import __version__ as diffusers_version
from generation import DENSE, ROOT, Generator, likeness, read_prompts


DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Diffusers:
    """A diffusers pipeline that is called with the model's own defaults (tamias.json)."""

    def __init__(self, model: Path, dtype: torch.dtype = torch.float32) -> None:
        self.pipeline = DiffusionPipeline.from_pretrained(model, torch_dtype=dtype, local_files_only=True)
        self.pipeline.set_progress_bar_config(disable=True)
        self.defaults = json.loads((model / "tamias.json").read_text())
        names = ("true_cfg_scale", "max_sequence_length", "width", "height", "num_frames")
        self.options = {name: self.defaults[name] for name in names if name in self.defaults}
        self.makes_films = "num_frames" in self.defaults

    @property
    def transformer(self):
        return self.pipeline.transformer

    @property
    def calls_twice(self) -> bool:
        """Whether guidance calls the transformer twice a step."""
        return self.defaults.get("true_cfg_scale", 1) > 1

    def run(self, prompt: str, seed: int, steps: int):
        """One generation: the seconds of denoising and of the VAE, and the frames in 0..1."""
        start = time.perf_counter()
        with torch.inference_mode():
            result = self.pipeline(
                prompt=prompt,
                negative_prompt="",
                num_inference_steps=steps,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="latent",
                **self.options,
            )
            decode_start = time.perf_counter()
            frames = self._decode(result.frames if self.makes_films else result.images)
        return {
            "seconds": decode_start - start,
            "seconds_vae": time.perf_counter() - decode_start,
            "frames": list(np.round(255 * frames) / 255),
        }

    def _decode(self, latents):
        """[frames, height, width, 3], as the pipeline itself does it."""
        pipe, vae = self.pipeline, self.pipeline.vae
        if self.makes_films:
            film = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
            return pipe.video_processor.postprocess_video(film, output_type="np")[0]
        height, width = self.options["height"], self.options["width"]
        latents = pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
        pixels = vae.decode(latents, return_dict=False)[0]
        return pipe.image_processor.postprocess(pixels, output_type="np")


def calibrate_magcache(peer: Diffusers, prompt, steps):
    """MagCache's magnitude ratios for this checkpoint, from one calibration run."""
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
    peer.transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=steps))
    peer.run(prompt, 1000, steps)
    peer.transformer.disable_cache()
    logger.removeHandler(handler)
    logger.setLevel(level)
    return ratios or None


def cache_candidates(steps, mag_ratios):
    candidates = {
        f"first-block cache {t}": FirstBlockCacheConfig(threshold=t) for t in (0.1, 0.3)
    }
    candidates["TaylorSeer every 4"] = TaylorSeerCacheConfig(
        cache_interval=4, taylor_factors_dtype=torch.float32, max_order=1
    )
    if mag_ratios:
        candidates["MagCache 0.24"] = MagCacheConfig(
            threshold=0.24, num_inference_steps=steps, mag_ratios=mag_ratios, max_skip_steps=4
        )
    return candidates


def rows_of(prompt: str, runs: dict, dense: float, reference: dict) -> list[dict]:
    """The runs by name: their speed beside `dense` seconds and their likeness to the frames of the reference."""
    return [
        {
            "candidate": name,
            "prompt": prompt,
            "seconds": run["seconds"],
            "speedup": dense / run["seconds"],
            **likeness(reference["frames"], run["frames"]),
        }
        for name, run in runs.items()
    ]


def measure_prompt(arguments, generator: Generator, peer: Diffusers, prompt, seed, caches):
    """Rows of the table, the comparison of the libraries, caches that failed, and the machine."""
    steps = arguments.steps
    options = ["--prompt", prompt, "--seed", seed, "--steps", steps, "--dtype", arguments.dtype]
    options += ["--threads", torch.get_num_threads()]
    dense_options = [*DENSE, *options]
    first, tamias_frames = generator.run(dense_options)
    accelerated = {}
    for profile in arguments.profiles:
        report, frames = generator.run([*options, "--sparsity", profile])
        accelerated[f"tamias, {profile}"] = {"seconds": report["seconds"]["denoise"], "frames": frames}
    reference = peer.run(prompt, seed, steps)
    runs = {f"diffusers dense, {steps} steps": reference}
    for fewer in arguments.fewer_steps:
        runs[f"diffusers dense, {fewer} steps"] = peer.run(prompt, seed, fewer)
    failures = {}
    for name, config in caches.items():
        try:
            peer.transformer.enable_cache(config)
            runs[f"diffusers, {name}"] = peer.run(prompt, seed, steps)
        except Exception as error:  # a cache that does not serve this model is a result, too
            failures[name] = f"{type(error).__name__}: {error}"
        finally:
            peer.transformer.disable_cache()
    last, _ = generator.run(dense_options)
    dense = (first["seconds"]["denoise"] + last["seconds"]["denoise"]) / 2
    rows = rows_of(prompt, accelerated, dense, {"frames": tamias_frames})
    rows += rows_of(prompt, runs, dense, reference)
    comparison = {
        "prompt": prompt,
        "tamias_dense_seconds": dense,
        "diffusers_dense_seconds": reference["seconds"],
        "dense_speedup_over_diffusers": reference["seconds"] / dense,
        "vae_speedup_over_diffusers": reference["seconds_vae"] / first["seconds"]["decode"],
        "psnr_between_libraries": likeness(reference["frames"], tamias_frames)["psnr"],
    }
    print(json.dumps(comparison), file=sys.stderr)
    return rows, comparison, failures, first["machine"]


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
    parser.add_argument("--dtype", choices=DTYPES, default="f32", help="of both libraries' activations")
    parser.add_argument("--profiles", nargs="*", default=[], help="of ours, beside dense")
    parser.add_argument("--no-caches", action="store_true", help="dense and fewer steps only")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    peer = Diffusers(arguments.model, DTYPES[arguments.dtype])
    prompts = read_prompts(arguments.prompt_file, arguments.prompts)
    caches = {}
    if not arguments.no_caches:
        mag_ratios = calibrate_magcache(peer, prompts[0], arguments.steps)
        caches = cache_candidates(arguments.steps, mag_ratios)
    rows, peers, failures, machine = [], [], {}, ""
    with tempfile.TemporaryDirectory() as folder:
        generator = Generator(arguments.program, arguments.model, Path(folder))
        for seed, prompt in enumerate(prompts):
            more, comparison, failed, machine = measure_prompt(
                arguments, generator, peer, prompt, seed, caches
            )
            rows += more
            peers.append(comparison)
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
    versions = (
        f"torch {torch.__version__}, diffusers {diffusers_version}, {torch.get_num_threads()} threads, "
        f"{arguments.dtype}"
    )
    print(f"{machine}; {versions}; {len(prompts)} prompts\n")
    print("| candidate | speed-up over Tamias dense | PSNR dB | SSIM |\n| --- | --- | --- | --- |")
    for row in table:
        print(f"| {row['candidate']} | {row['speedup']:.2f}x | {row['psnr']:.2f} | {row['ssim']:.4f} |")
    ratio = statistics.median(p["dense_speedup_over_diffusers"] for p in peers)
    vae = statistics.median(p["vae_speedup_over_diffusers"] for p in peers)
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
