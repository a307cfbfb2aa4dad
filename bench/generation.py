"""What the end-to-end benchmarks share: runs of the command line, and the likeness of their results."""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools/quality"))
from likeness import load, psnr, ssim  # noqa: E402

DENSE = ["--sparsity", "off"]


class Generator:
    """`tamias generate` with one model; a picture is a film of one frame."""

    def __init__(self, program: Path, model: Path, folder: Path) -> None:
        self.program = program
        self.model = model
        self.folder = folder  # for what is written in between
        command = [str(program), "inspect", "--model", str(model), "--json"]
        info = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.makes_films = "num_frames" in json.loads(info)["defaults"]

    def run(self, options):
        """One run: (report, frames [height, width, 3] in 0..1)."""
        report, frames = self.folder / "report.json", self.folder / "frames"
        shutil.rmtree(frames, ignore_errors=True)
        frames.mkdir()
        command = [str(self.program), "generate", "--model", str(self.model), "--quiet"]
        if self.makes_films:
            command += ["--output", str(self.folder / "film.mp4"), "--frames-dir", str(frames)]
        else:
            command += ["--output", str(frames / "picture.png")]
        subprocess.run([*command, "--report", str(report), *map(str, options)], check=True)
        return json.loads(report.read_text()), [load(path) for path in sorted(frames.glob("*.png"))]


def likeness(reference, frames) -> dict[str, float]:
    """PSNR (99 dB at most) and SSIM, means over the frames."""
    pairs = list(zip(reference, frames, strict=True))
    return {
        "psnr": statistics.mean(min(99.0, psnr(a, b)) for a, b in pairs),
        "ssim": statistics.mean(ssim(a, b) for a, b in pairs),
    }


def read_prompts(path: Path, count: int) -> list[str]:
    """The first `count` lines that are neither empty nor comments."""
    lines = path.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")][:count]
