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

A candidates file maps names to command-line options: {"10 % of columns": ["--set", "attn.top_keys=0.1"]}.
Needs numpy and pillow (.venv has them).
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools/quality"))
from likeness import load, psnr, ssim  # noqa: E402

DENSE = ["--sparsity", "off"]
FEWER_STEPS = {f"dense, {steps} steps": [*DENSE, "--steps", str(steps)] for steps in (25, 17, 12)}


def default_candidates() -> dict[str, list[str]]:
    """The shipped profiles, with and without step caching, and plain runs with fewer steps."""
    return {
        "demo": ["--sparsity", "demo"],
        "demo, no step caching": ["--sparsity", "demo", "--set", "step_caching.is_enabled=false"],
        "flux-1-dev": ["--sparsity", "flux-1-dev"],
        **FEWER_STEPS,
    }


def makes_films(program: Path, model: Path) -> bool:
    """Whether the model's results are films."""
    command = [str(program), "inspect", "--model", str(model), "--json"]
    info = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return "num_frames" in info["defaults"]


def generate(arguments, options, folder: Path):
    """One run of the command line: (report, frames); a picture is one frame."""
    report, frames = folder / "report.json", folder / "frames"
    shutil.rmtree(frames, ignore_errors=True)
    frames.mkdir()
    command = [str(arguments.program), "generate", "--model", str(arguments.model), "--quiet"]
    if arguments.makes_films:
        command += ["--output", str(folder / "film.mp4"), "--frames-dir", str(frames)]
    else:
        command += ["--output", str(frames / "picture.png")]
    subprocess.run([*command, "--report", str(report), *map(str, options)], check=True)
    return json.loads(report.read_text()), [load(path) for path in sorted(frames.glob("*.png"))]


def mean_over_frames(measure, reference, frames) -> float:
    return statistics.mean(measure(a, b) for a, b in zip(reference, frames, strict=True))


def run_prompt(arguments, prompt: str, seed: int, candidates, folder: Path):
    """All candidates on one prompt: a list of rows."""
    common = ["--prompt", prompt, "--seed", seed]
    if arguments.size:
        common += ["--width", arguments.size, "--height", arguments.size]
    first, reference = generate(arguments, [*DENSE, *common], folder)
    rows = []
    for name, options in candidates.items():
        report, frames = generate(arguments, [*options, *common], folder)
        kinds = [step["kind"] for step in report["steps"]]
        rows.append(
            {
                "candidate": name,
                "prompt": prompt,
                "seed": seed,
                "seconds": report["seconds"]["denoise"],
                "psnr": mean_over_frames(lambda a, b: min(99.0, psnr(a, b)), reference, frames),
                "ssim": mean_over_frames(ssim, reference, frames),
                "attention_sparsity": report["attention_sparsity"],
                "mlp_sparsity": report["mlp_sparsity"],
                "steps": {kind: kinds.count(kind) for kind in ("full", "sparse", "skip")},
            }
        )
    last, _ = generate(arguments, [*DENSE, *common], folder)
    dense = (first["seconds"]["denoise"] + last["seconds"]["denoise"]) / 2
    for row in rows:
        row["speedup"] = dense / row["seconds"]
    drift = last["seconds"]["denoise"] / first["seconds"]["denoise"]
    print(f"  {prompt}: dense {dense:.1f} s, drift of the machine {drift:.2f}", file=sys.stderr)
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
    lines = arguments.prompt_file.read_text().splitlines()
    prompts = [line for line in lines if line and not line.startswith("#")][: arguments.prompts]
    arguments.makes_films = makes_films(arguments.program, arguments.model)
    rows, machine = [], ""
    with tempfile.TemporaryDirectory() as folder:
        for seed, prompt in enumerate(prompts):
            more, machine = run_prompt(arguments, prompt, seed, candidates, Path(folder))
            rows += more
    table = summarise(rows, candidates)
    print(f"{machine}; {len(prompts)} prompts; {arguments.model.name}\n")
    print_table(table)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"machine": machine, "table": table, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
