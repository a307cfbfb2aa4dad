"""tools/gpu_check where there is no GPU, and the random FLUX that it times."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "gpu"))

import random_flux  # noqa: E402
import report as gpu_report  # noqa: E402
from parts import step_times  # noqa: E402

PROGRAM = Path(os.environ.get("TAMIAS_PROGRAM", ROOT / "build/release/tamias"))
PARTS = ["tests", "demo", "kernels", "video", "flux"]


def gpu_check(*arguments, interpreter=(sys.executable,)):
    command = [*interpreter, ROOT / "tools/gpu_check", *map(str, arguments)]
    # What shows no GPU where there is one; nothing else of this environment.
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("part", PARTS)
def test_without_a_gpu_each_part_says_so_in_one_line(tmp_path, part):
    # -S: without the packages of this Python, too
    result = gpu_check("--only", part, "--out", tmp_path / "out", interpreter=(sys.executable, "-S"))
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"gpu_check: no GPU: .+\n", result.stderr)
    assert not (tmp_path / "out").exists()


def test_help_names_every_part_and_shows_examples():
    text = gpu_check("--help").stdout
    for part in PARTS:
        assert re.search(rf"^  {part} ", text, re.MULTILINE), part
    assert "--pack out/tamias-gpu.tar.gz" in text


def test_an_unknown_part_and_an_unknown_kind_of_archive_are_refused(tmp_path):
    result = gpu_check("--only", "everything")
    assert result.returncode == 2 and "invalid choice: 'everything'" in result.stderr
    result = gpu_check("--pack", tmp_path / "gpu.zip")
    assert result.returncode == 2 and "expected a name that ends in .tar.gz or .tar.xz" in result.stderr
    assert list(tmp_path.iterdir()) == []


def header_of(path: Path) -> dict:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return header


def test_the_random_flux_has_the_tensors_of_the_architecture():
    folder = random_flux.DEMO / "transformer"
    config = json.loads((folder / "config.json").read_text())
    expected = {name: entry["shape"] for name, entry in header_of(folder / random_flux.TRANSFORMER).items()}
    found = random_flux.shapes(config)
    guidance = {name for name in found if "guidance" in name}  # the demo has none
    assert len(guidance) == 4
    assert {name: shape for name, shape in found.items() if name not in guidance} == expected


def test_the_published_size():
    assert random_flux.size_of(random_flux.FLUX_1_DEV) == pytest.approx(2 * 11.9e9, rel=0.01)


def test_a_small_random_flux_generates(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    random_flux.make(folder, random_flux.Geometry(double_blocks=1, single_blocks=2, heads=2, head_dim=128))
    command = [PROGRAM, "generate", "--model", folder, "--prompt", "a star", "--output", tmp_path / "p.png"]
    command += ["--width", "64", "--height", "64", "--steps", "2", "--max-sequence-length", "16"]
    command += ["--sparsity", "off", "--report", tmp_path / "report.json", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    times = step_times("flux", json.loads((tmp_path / "report.json").read_text()))
    assert times["full_step"] > 0 and times["seconds_denoise"] > times["full_step"]


def test_random_numbers_are_signed_and_of_one_size():
    data = random_flux.random_bf16(1000)
    bits = [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2)]
    exponents = {bit >> 7 & 0xFF for bit in bits}
    assert exponents == {127 - 6}
    assert 300 < sum(bit >> 15 for bit in bits) < 700
    assert len({bit & 0x7F for bit in bits}) > 100


def test_the_report_counts_what_failed():
    report = {
        "date": "2026-01-01",
        "commit": "abc",
        "nvcc": "13.0",
        "gpu": {"name": "GPU", "compute_capability": "90", "driver_cuda": "13.0", "driver": "580"},
        "seconds": {"tests": 3.2},
        "tests": [
            {"name": "A.b", "passed": True, "message": ""},
            {"name": "A.c", "passed": False, "message": "off by one"},
        ],
        "steps": [{"name": "flux, sparsity off", "error_message": "see log"}],
    }
    text = gpu_report.markdown(report)
    assert "Tests: 1 of 2 passed." in text
    assert "- **failed** A.c: off by one" in text and "flux, sparsity off: see log" in text
    assert len(gpu_report.failures(report)) == 2
