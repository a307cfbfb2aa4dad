"""What tools/gpu_check runs, one function a part. Each returns lists of `tests`, `pictures`, `benchmarks` or `steps`."""

import json
import shutil
import statistics
import tempfile
from pathlib import Path

from programs import ROOT, Programs, run
from random_flux import FLUX_1_DEV, make, size_of

PROMPT = "a small pink heart at the top right on a marble white background"


def tests(programs: Programs, out: Path, log: Path) -> dict:
    """The kernels and the engine on the GPU against the readable reference and the CPU."""
    result = out / "tests.json"
    result.unlink(missing_ok=True)
    run([programs.tests, f"--gtest_output=json:{result}"], log, programs.environment)
    if not result.exists():
        failure = {"name": "cuda_device_test", "passed": False, "message": f"ended early: see {log}"}
        return {"tests": [failure]}
    cases = [
        {
            "name": f"{suite['name']}.{case['name']}",
            "passed": case["result"] == "COMPLETED" and "failures" not in case,
            "message": "; ".join(failure["failure"] for failure in case.get("failures", [])),
        }
        for suite in json.loads(result.read_text())["testsuites"]
        for case in suite["testsuite"]
    ]
    return {"tests": cases}


HUNYUAN_VIDEO = "N:119056"  # tokens of a film at 720 x 1280 x 129


def kernels(programs: Programs, out: Path, log: Path) -> dict:
    """Attention and MLP at FLUX.1's sizes."""
    return {"benchmarks": benchmarks(programs, f"-{HUNYUAN_VIDEO}", out, log)}


def video(programs: Programs, out: Path, log: Path) -> dict:
    """Attention of four heads of HunyuanVideo at full size: all of films that runs on GPUs."""
    return {"benchmarks": benchmarks(programs, HUNYUAN_VIDEO, out, log)}


def benchmarks(programs: Programs, pattern: str, out: Path, log: Path) -> list:
    found = []
    for name, program in programs.benches.items():
        result = out / f"{name}.json"
        result.unlink(missing_ok=True)
        command = [program, f"--benchmark_filter={pattern}"]
        command += [f"--benchmark_out={result}", "--benchmark_out_format=json"]
        if run(command, log, programs.environment) != 0 or not result.exists():
            found.append({"name": name, "error_message": f"ended early: see {log}"})
        elif result.stat().st_size > 0:  # empty: no benchmark of this program has such a name
            found += json.loads(result.read_text())["benchmarks"]
    return found


# The demo model's pictures, by GPU and CPU from the same noise, must be this much alike: 16-bit activations leave
# that; columns and neurons near the threshold of a selection may be chosen on one side only.
TARGET_PSNR = {"off": 40.0, "demo": 35.0}


def psnr(first: Path, second: Path) -> float:
    import numpy as np
    from PIL import Image

    pictures = [np.asarray(Image.open(path), dtype=float) for path in (first, second)]
    error = ((pictures[0] - pictures[1]) ** 2).mean()
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def generate(programs: Programs, stem: Path, log: Path, *options) -> dict | None:
    """The report of a picture in STEM.png; None when it failed."""
    command = [programs.tamias, "generate", "--prompt", PROMPT, "--quiet", *options]
    command += ["--output", f"{stem}.png", "--report", f"{stem}.json"]
    if run(command, log, programs.environment) != 0:
        return None
    return json.loads(Path(f"{stem}.json").read_text())


def demo(programs: Programs, out: Path, log: Path) -> dict:
    """The demo model's picture by CPU and GPU, dense and accelerated."""
    found = []
    for sparsity, target in TARGET_PSNR.items():
        entry = {"name": f"demo picture, sparsity {sparsity}", "passed": False, "message": f"see {log}"}
        found.append(entry)
        for device in ("cpu", "cuda"):
            options = ["--model", ROOT / "models/demo-flux", "--sparsity", sparsity, "--device", device]
            report = generate(programs, out / f"demo-{sparsity}-{device}", log, *options)
            if report is None:
                break
            entry[f"seconds_denoise_{device}"] = report["seconds"]["denoise"]
        else:
            likeness = psnr(out / f"demo-{sparsity}-cuda.png", out / f"demo-{sparsity}-cpu.png")
            entry |= {"psnr": likeness, "passed": likeness >= target}
            entry["message"] = f"PSNR {likeness:.1f}, expected {target}"
    return {"pictures": found}


# 80 x 48 tokens of the picture, as FLUX.1 has them at 1280x768 (a token of the demo's VAE is 8 pixels wide, of
# FLUX.1's 16), and 512 of text.
FLUX_OPTIONS = ["--width", "640", "--height", "384", "--max-sequence-length", "512", "--steps", "50"]


def flux(programs: Programs, out: Path, log: Path) -> dict:
    """FLUX.1-dev's transformer at full size with random weights: seconds of a step, by kind."""
    found = []
    needed = size_of(FLUX_1_DEV)
    if shutil.disk_usage(tempfile.gettempdir()).free < needed:
        message = f"{tempfile.gettempdir()} has no {needed / 1e9:.0f} GB free: set TMPDIR"
        return {"steps": [{"name": "flux", "error_message": message}]}
    with tempfile.TemporaryDirectory(prefix="tamias-flux-") as folder:
        print(f"gpu_check: writing {needed / 1e9:.0f} GB of random weights", flush=True)
        make(Path(folder), FLUX_1_DEV)
        for sparsity in ("off", "flux-1-dev"):
            options = ["--model", folder, "--sparsity", sparsity, "--device", "cuda", *FLUX_OPTIONS]
            report = generate(programs, out / f"flux-{sparsity}", log, *options)
            if report is None:
                found.append({"name": f"flux, sparsity {sparsity}", "error_message": f"see {log}"})
                continue
            found.append(step_times(f"flux, sparsity {sparsity}", report))
    return {"steps": found}


def step_times(name: str, report: dict) -> dict:
    """The median seconds of each kind of step but the first, which chooses algorithms."""
    kinds = {}
    for step in report["steps"][1:]:
        kinds.setdefault(step["kind"], []).append(step["seconds"])
    entry = {"name": name, "seconds_denoise": report["seconds"]["denoise"]}
    entry["seconds_encode"] = report["seconds"]["encode"]
    return entry | {f"{kind}_step": statistics.median(times) for kind, times in kinds.items()}


PARTS = {"tests": tests, "demo": demo, "kernels": kernels, "video": video, "flux": flux}
