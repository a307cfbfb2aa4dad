"""What tools/gpu_check runs, one function a part. Each returns lists of `tests`, `pictures`, `benchmarks`, `films`,
`decoders`, `steps` or `notes`."""

import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from films import Decoder, Film, Plans, decode, decoders, films, measure
from machine import gpu_memory_reader
from programs import ROOT, Programs, run, show
from random_models import FLUX_1_DEV, JointGeometry, Model, make
from random_models import flux as flux_model

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


def cudnn_attention(shapes: list[tuple[int, int]], log: Path) -> dict:
    """Dense attention of (heads, tokens) by cuDNN, where Python has PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return {"notes": ["dense attention, cuDNN through PyTorch: not measured, this Python has no torch"]}
    command = [sys.executable, Path(__file__).with_name("torch_attention.py")]
    command += [f"{heads}x{tokens}" for heads, tokens in shapes]
    show(command)
    with log.open("a") as file:
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=file, text=True)
    if process.returncode != 0:
        return {"notes": [f"dense attention, cuDNN through PyTorch: failed, see {log}"]}
    answer = json.loads(process.stdout)
    name = f"dense attention, cuDNN through PyTorch {answer['torch']}"
    return {
        "benchmarks": [
            {"name": f"{name}, {heads} x {tokens:,}", "real_time": time}
            for (heads, tokens), time in zip(shapes, answer["milliseconds"])
        ]
    }


# Of bench/cuda_attention_bench.cc: heads and tokens.
ATTENTION_SHAPES = [(24, 4352), (24, 12032), (4, 119056)]


def kernels(programs: Programs, out: Path, log: Path) -> dict:
    """Attention and MLP at FLUX.1's sizes, attention of four heads at HunyuanVideo's; attention beside cuDNN's."""
    found = []
    for name, program in programs.benches.items():
        result = out / f"{name}.json"
        result.unlink(missing_ok=True)
        command = [program, f"--benchmark_out={result}", "--benchmark_out_format=json"]
        if run(command, log, programs.environment) != 0 or not result.exists():
            found.append({"name": name, "error_message": f"ended early: see {log}"})
        else:
            found += json.loads(result.read_text())["benchmarks"]
    peer = cudnn_attention(ATTENTION_SHAPES, log)
    return {"benchmarks": found + peer.get("benchmarks", []), "notes": peer.get("notes", [])}


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
    """The report of a picture in STEM.png; None when it failed or there was no more time."""
    command = [programs.tamias, "generate", "--prompt", PROMPT, "--quiet", *options]
    command += ["--output", f"{stem}.png", "--report", f"{stem}.json"]
    if run(command, log, programs.environment, programs.seconds_left()) != 0:
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


@contextmanager
def random_model(model: Model) -> Iterator[Path]:
    """A folder with the model, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="tamias-model-") as folder:
        print(f"gpu_check: writing {model.bytes() / 1e9:.0f} GB of random weights", flush=True)
        make(Path(folder), model)
        yield Path(folder)


def no_room(needed: int) -> str | None:
    """What is wrong where the folder of temporary files has not so many bytes free."""
    if shutil.disk_usage(tempfile.gettempdir()).free >= needed:
        return None
    return f"{tempfile.gettempdir()} has no {needed / 1e9:.0f} GB free: set TMPDIR"


def peers(of: list[Film], log: Path) -> dict:
    """Dense attention of one layer of each by cuDNN."""
    found = cudnn_attention([(film.heads, film.joint_tokens()) for film in of], log)
    for film, entry in zip(of, found.get("benchmarks", [])):
        entry |= {"layers": film.layers, "calls": film.calls}
    return found


NOT_BEGUN = "{}: not begun, there was no more time"


def video(
    programs: Programs,
    out: Path,
    log: Path,
    of: list[Film] | None = None,
    device: str = "cuda",
) -> dict:
    """Steps of the published film models at 720p with random weights, one after another."""
    of = films() if of is None else of
    problem = no_room(max(film.model.bytes() for film in of))
    if problem is not None:
        return {"films": [{"name": "video", "error_message": problem}]}
    read_memory = gpu_memory_reader() if device == "cuda" else lambda: None
    found = {"films": [], "notes": []} | (peers(of, log) if device == "cuda" else {})
    for film in of:
        if programs.seconds_left() == 0:
            found["notes"].append(NOT_BEGUN.format(film.name))
            continue
        with random_model(film.model) as folder:
            found["films"].append(measure(programs, film, folder, log, device, read_memory))
    found["notes"] += [entry["cut"] for entry in found["films"] if "cut" in entry]
    return found


FLUX_MEMORY = "16GiB"
# 80 x 48 tokens of the picture, as FLUX.1 has them at 1280x768 (a token of the demo's VAE is 8 pixels wide, of
# FLUX.1's 16), and 512 of text.
FLUX_SIZE = ["--width", "640", "--height", "384", "--max-sequence-length", "512"]


def memory(
    programs: Programs,
    out: Path,
    log: Path,
    geometry: JointGeometry = FLUX_1_DEV,
    of: list[Decoder] | None = None,
    device: str = "cuda",
) -> dict:
    """FLUX.1-dev in 16 GiB of the GPU's memory and in all of it, and the decoders of the film models."""
    model = flux_model(geometry)
    problem = no_room(model.bytes())
    if problem is not None:
        return {"steps": [{"name": "memory", "error_message": problem}]}
    found = {"steps": [], "decoders": [], "notes": []}
    with random_model(model) as folder:
        options = ["--model", folder, "--device", device, *FLUX_SIZE]
        limit = ["--max-gpu-memory", FLUX_MEMORY]
        plans = Plans(programs, [*options, *limit, "--sparsity", "flux-1-dev"], log)
        for place, limited in ((FLUX_MEMORY, limit), ("all", [])):
            for sparsity in ("flux-1-dev", "off"):
                name = f"12 steps in {place} of the GPU's memory, sparsity {sparsity}"
                choice = [*options, *limited, "--sparsity", sparsity, "--steps", "12"]
                add_times(programs, name, out / f"flux-{sparsity}-{place}", log, choice, found)
        done = plans.get().get("measures_accelerated", [])
        found["notes"] += [f"FLUX.1-dev in {FLUX_MEMORY}: {what}" for what in done]
    read_memory = gpu_memory_reader() if device == "cuda" else lambda: None
    for decoder in decoders() if of is None else of:
        if programs.seconds_left() == 0:
            found["notes"].append(NOT_BEGUN.format(decoder.name))
        else:
            found["decoders"].append(decode(programs, decoder, log, device, read_memory))
    found["notes"] += [entry["cut"] for entry in found["decoders"] if "cut" in entry]
    return found


def flux(programs: Programs, out: Path, log: Path) -> dict:
    """FLUX.1-dev's transformer at full size with random weights: seconds of a step, by kind."""
    model = flux_model(FLUX_1_DEV)
    problem = no_room(model.bytes())
    if problem is not None:
        return {"steps": [{"name": "flux", "error_message": problem}]}
    found = {"steps": [], "notes": []}
    with random_model(model) as folder:
        for sparsity in ("off", "flux-1-dev"):
            options = [
                "--model",
                folder,
                "--sparsity",
                sparsity,
                "--device",
                "cuda",
                *FLUX_SIZE,
                "--steps",
                "50",
            ]
            name = f"50 steps, sparsity {sparsity}"
            add_times(programs, name, out / f"flux-{sparsity}", log, options, found)
    return found


def add_times(programs: Programs, name: str, stem: Path, log: Path, options: list, found: dict) -> None:
    """Puts a generation's times into found["steps"], or into found["notes"] that there was no time."""
    if programs.seconds_left() == 0:
        found["notes"].append(NOT_BEGUN.format(f"FLUX.1-dev, {name}"))
        return
    report = generate(programs, stem, log, *options)
    if report is not None:
        found["steps"].append(step_times(name, report))
    elif programs.seconds_left() == 0:
        found["notes"].append(f"FLUX.1-dev, {name}: cut, there was no more time")
    else:
        found["steps"].append({"name": name, "error_message": f"see {log}"})


def step_times(name: str, report: dict) -> dict:
    """The median seconds of each kind of step but the first, which chooses algorithms."""
    kinds = {}
    for step in report["steps"][1:]:
        kinds.setdefault(step["kind"], []).append(step["seconds"])
    entry = {"name": name, "seconds_denoise": report["seconds"]["denoise"]}
    entry["seconds_encode"] = report["seconds"]["encode"]
    entry |= {f"{kind}_step": statistics.median(times) for kind, times in kinds.items()}
    if "planned_device_memory_bytes" in report:
        entry["planned_memory"] = report["planned_device_memory_bytes"]
    return entry


PARTS = {"tests": tests, "demo": demo, "kernels": kernels, "video": video, "memory": memory, "flux": flux}
