"""The programs that tools/gpu_check runs: those of an archive of its own, or built from a checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from machine import cublas_lt, leave

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "manifest.json"  # in an archive only
TARGETS = ("cuda_device_test", "tamias-cli")
TIME_WAS_UP = 124


def show(command: list) -> None:
    """Prints a command, of long arguments the beginning, after the name of the program that runs it."""
    words = (str(word) for word in command)
    line = " ".join(word if len(word) < 200 else word[:40] + "..." for word in words)
    print(f"{Path(sys.argv[0]).stem}: {line}", flush=True)


def run(command: list, log: Path, environment: dict | None = None, seconds: float | None = None) -> int:
    """The exit status; TIME_WAS_UP after that many seconds."""
    show(command)
    with log.open("a") as file:
        try:
            return subprocess.run(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            return TIME_WAS_UP


def output_of(command: list) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def benches() -> list[str]:
    return [path.stem for path in sorted((ROOT / "bench").glob("cuda_*_bench.cc"))]


def toolkit() -> str:
    """The release of the CUDA toolkit ("13.0"), which must be here."""
    os.environ["PATH"] += os.pathsep + "/usr/local/cuda/bin"
    if shutil.which("nvcc") is None:
        leave(2, "no CUDA toolkit: nvcc is not in the PATH")
    return re.search(r"release ([0-9.]+)", output_of(["nvcc", "--version"])).group(1)


def architecture_of(capability: str) -> str:
    """What to build for: with its own instructions where there are kernels of its own (*_sm90a.cu)."""
    return "90a" if capability == "90" else capability


def build(folder: Path, architectures: str, log: Path, options: tuple = ()) -> None:
    """Configures and builds the GPU programs; ends the run when that fails."""
    configure = ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]
    configure += ["-DTAMIAS_CUDA=ON", f"-DTAMIAS_CUDA_ARCHITECTURES={architectures}", *options]
    for command in (configure, ["cmake", "--build", folder, "--target", *TARGETS, *benches()]):
        if run(command, log) != 0:
            leave(1, f"the build failed: see {log}")


class Programs:
    """Where the programs lie and what they need to run. Built here, for this GPU, from a checkout."""

    def __init__(self, capability: str, log: Path) -> None:
        if MANIFEST.exists():
            manifest = json.loads(MANIFEST.read_text())
            self.tamias, self.tests = ROOT / "bin/tamias", ROOT / "bin/cuda_device_test"
            self.benches = {path.name: path for path in sorted((ROOT / "bin").glob("cuda_*_bench"))}
        else:
            manifest = {"nvcc": toolkit()}
            manifest["commit"] = output_of(["git", "describe", "--always", "--dirty"])
            folder = ROOT / "build" / "gpu-check"
            build(folder, architecture_of(capability), log)
            self.tamias, self.tests = folder / "tamias", folder / "tests/cuda_device_test"
            self.benches = {name: folder / "bench" / name for name in benches()}
        self.nvcc, self.commit = manifest["nvcc"], manifest["commit"]
        self.environment = os.environ | {"TAMIAS_CONFIGS": str(ROOT / "configs")}
        library = cublas_lt(self.nvcc.split(".")[0])
        if library is not None and "TAMIAS_CUBLASLT" not in os.environ:
            self.environment["TAMIAS_CUBLASLT"] = library
        if run([self.tamias, "--version"], log) != 0:
            leave(2, f"{self.tamias} does not start on this machine: see {log}")

    def give(self, seconds: float) -> None:
        """What the part that begins may take."""
        self.deadline = time.monotonic() + seconds

    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())
