#!/usr/bin/env python3
"""Likeness over time: many ways to generate faster, against our own dense result of the same noise.

For each prompt every candidate runs in turn (dense first and last, so that a drift of the machine's
speed shows), through the command line. A candidate's speed-up is dense time / its time, both of
denoising, on the same prompt; the table gives medians over the prompts, and means of PSNR and SSIM
(of films: means over their frames, too).

    python bench/frontier.py --prompts 4 --output out/frontier.json
    python bench/frontier.py --candidates bench/frontier_candidates.json --only "columns|25 steps"
    python bench/frontier.py --model models/demo-video --prompt-file tools/quality/motion_prompts.txt \\
        --candidates bench/frontier_video_candidates.json
    python bench/frontier.py --prompts 2 --steps 8 --candidates bench/few_steps_candidates.json

A candidates file maps names to command-line options: {"10 % of columns": ["--set", "attn.top_keys=0.1"]}.
Needs numpy and pillow (.venv has them).
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path

from generation import DENSE, ROOT, Generator, likeness, read_prompts

FEWER_STEPS = {f"dense, {steps} steps": [*DENSE, "--steps", str(steps)] for steps in (25, 17, 12)}


def default_candidates() -> dict[str, list[str]]:
    """The shipped profiles, with and without step caching, and plain runs with fewer steps."""
    return {
        "demo": ["--sparsity", "demo"],
        "demo, no step caching": ["--sparsity", "demo", "--set", "step_caching.is_enabled=false"],
        "flux-1-dev": ["--sparsity", "flux-1-dev"],
        **FEWER_STEPS,
    }


def steps_option(options: list[str], steps: int) -> list[str]:
    """The number of steps for a run whose own options do not name one; 0: the model's default."""
    return ["--steps", str(steps)] if steps and "--steps" not in options else []


def run_prompt(generator: Generator, size: int, steps: int, prompt: str, seed: int, candidates):
    """All candidates on one prompt: a list of rows."""
    common = ["--prompt", prompt, "--seed", seed]
    if size:
        common += ["--width", size, "--height", size]
    dense = [*DENSE, *common, *steps_option(DENSE, steps)]
    first, reference = generator.run(dense)
    rows = []
    for name, options in candidates.items():
        report, frames = generator.run([*options, *common, *steps_option(options, steps)])
        kinds = [step["kind"] for step in report["steps"]]
        rows.append(
            {
                "candidate": name,
                "prompt": prompt,
                "seed": seed,
                "seconds": report["seconds"]["denoise"],
                **likeness(reference, frames),
                "attention_sparsity": report["attention_sparsity"],
                "mlp_sparsity": report["mlp_sparsity"],
                "steps": {kind: kinds.count(kind) for kind in ("full", "sparse", "skip")},
            }
        )
    last, _ = generator.run(dense)
    seconds = (first["seconds"]["denoise"] + last["seconds"]["denoise"]) / 2
    for row in rows:
        row["speedup"] = seconds / row["seconds"]
    drift = last["seconds"]["denoise"] / first["seconds"]["denoise"]
    print(f"  {prompt}: dense {seconds:.1f} s, drift of the machine {drift:.2f}", file=sys.stderr)
    return rows, first["machine"]


def summarise(rows, candidates):
    table = []
    for name, options in candidates.items():
        mine = [row for row in rows if row["candidate"] == name]
        table.append(
            {
                "candidate": name,
                "options": options,
                "speedup": statistics.median(row["speedup"] for row in mine),
                "psnr": statistics.mean(row["psnr"] for row in mine),
                "psnr_worst": min(row["psnr"] for row in mine),
                "ssim": statistics.mean(row["ssim"] for row in mine),
                "attention_sparsity": statistics.mean(row["attention_sparsity"] for row in mine),
                "mlp_sparsity": statistics.mean(row["mlp_sparsity"] for row in mine),
                "steps": mine[0]["steps"],
            }
        )
    return table


def print_table(table):
    print(f"| {'candidate':44} | speed-up | PSNR dB (worst) |  SSIM  | attention | MLP  | full/sparse/skip |")
    print(f"| {'-' * 44} | -------- | --------------- | ------ | --------- | ---- | ---------------- |")
    for row in table:
        steps = "/".join(str(row["steps"][kind]) for kind in ("full", "sparse", "skip"))
        print(
            f"| {row['candidate']:44} | {row['speedup']:7.2f}x | {row['psnr']:6.2f} ({row['psnr_worst']:5.2f})  "
            f"| {row['ssim']:.4f} | {100 * row['attention_sparsity']:7.1f} % | {100 * row['mlp_sparsity']:3.0f}% "
            f"| {steps:16} |"
        )


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo-flux")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/tamias")
    parser.add_argument("--prompt-file", type=Path, default=ROOT / "tools/quality/prompts.txt")
    parser.add_argument("--prompts", type=int, default=4, help="how many of the held-out prompts")
    parser.add_argument("--size", type=int, default=0, help="side in pixels; 0: the model's default")
    parser.add_argument(
        "--steps", type=int, default=0, help="of dense, and of candidates without --steps; 0: the model's default"
    )
    parser.add_argument("--candidates", type=Path, help="JSON file of candidates")
    parser.add_argument("--only", default="", help="run the candidates whose name matches this")
    parser.add_argument("--output", type=Path, help="write rows and table as JSON")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    candidates = default_candidates()
    if arguments.candidates:
        candidates = json.loads(arguments.candidates.read_text())
    candidates = {k: v for k, v in candidates.items() if re.search(arguments.only, k)}
    prompts = read_prompts(arguments.prompt_file, arguments.prompts)
    rows, machine = [], ""
    with tempfile.TemporaryDirectory() as folder:
        generator = Generator(arguments.program, arguments.model, Path(folder))
        for seed, prompt in enumerate(prompts):
            more, machine = run_prompt(
                generator, arguments.size, arguments.steps, prompt, seed, candidates
            )
            rows += more
    table = summarise(rows, candidates)
    print(f"{machine}; {len(prompts)} prompts; {arguments.model.name}\n")
    print_table(table)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"machine": machine, "table": table, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
