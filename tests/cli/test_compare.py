"""tamias compare: both pictures, what differs and a report that adds up."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import MODEL, PROGRAM, PROMPT, SMALL, expect_error, read_json, run
from PIL import Image

SIZE = ["--width", "256", "--height", "192", "--steps", "6"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "new/folder"
    result = run("compare", "--model", MODEL, "--prompt", PROMPT, *SIZE, "--output", folder,
                 "--set", "attn.first_n_dense_layers=0", "--set", "attn.top_keys=0.3")
    assert result.returncode == 0, result.stderr
    return folder, result


def picture(path):
    return np.asarray(Image.open(path), dtype=float)


def test_writes_all_files(comparison):
    folder, _ = comparison
    assert sorted(path.name for path in folder.iterdir()) == [
        "accelerated.png", "dense.png", "difference.png", "report.json", "side-by-side.png",
    ]
    assert picture(folder / "dense.png").shape == (192, 256, 3)
    assert picture(folder / "side-by-side.png").shape == (192, 256 * 2 + 8, 3)


def test_report_agrees_with_the_pictures(comparison):
    folder, _ = comparison
    report = read_json(folder / "report.json")
    dense, accelerated = picture(folder / "dense.png"), picture(folder / "accelerated.png")
    error = np.square(dense - accelerated).mean()
    assert error > 0
    assert report["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-6)
    assert 0 < report["ssim"] < 1
    assert report["frames"] == [
        {"image": 0, "frame": 0, "psnr": report["psnr"], "ssim": report["ssim"]}]
    assert report["latent_relative_l2"] > 0
    assert report["speedup"] == pytest.approx(
        report["seconds_dense"] / report["seconds_accelerated"])
    assert 0 < report["attention_sparsity"] < 1
    assert report["accelerated"]["attention_sparsity"] == report["attention_sparsity"]
    assert report["dense"]["attention_sparsity"] == 0


def test_peak_memory_was_planned(comparison):
    """Within 10 % of the plan."""
    report = read_json(comparison[0] / "report.json")
    assert report["peak_memory_bytes"] == pytest.approx(report["planned_memory_bytes"], rel=0.1)


def test_peak_memory_is_the_programs_own(tmp_path):
    """Not that of the process that started it, which may be large: a notebook, a server."""
    program = f"""
import subprocess
held = bytearray(b"x" * (700 << 20))
subprocess.run({[str(PROGRAM), "compare", "--model", str(MODEL), "--prompt", PROMPT, *SMALL, "--output", str(tmp_path)]!r},
               check=True, capture_output=True)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert read_json(tmp_path / "report.json")["peak_memory_bytes"] < 500 << 20


def test_difference_is_amplified_four_times(comparison):
    folder, _ = comparison
    expected = np.minimum(
        255, 4 * np.abs(picture(folder / "dense.png") - picture(folder / "accelerated.png")))
    assert np.array_equal(picture(folder / "difference.png"), expected)


def test_table_names_the_measures(comparison):
    _, result = comparison
    for word in ("dense", "accelerated", "PSNR", "SSIM", "attention sparsity", "latent relative L2"):
        assert word in result.stdout


def test_nothing_to_compare_with_itself(tmp_path):
    result = run("compare", "--model", MODEL, "--prompt", PROMPT, "--sparsity", "off",
                 "--output", tmp_path / "c")
    expect_error(result, 2, "sparsity", "off")
    assert not (tmp_path / "c").exists()


def test_all_columns_and_neurons_is_dense(tmp_path):
    """With everything selected the accelerated path computes the same picture another way."""
    folder = tmp_path / "c"
    everything = ["attn.top_keys=1", "mlp.top_keys=1", "attn.first_n_dense_layers=0",
                  "mlp.first_n_dense_layers=0", "step_caching.is_enabled=false"]
    result = run("compare", "--model", MODEL, "--prompt", PROMPT, *SIZE, "--output", folder, "--json",
                 *(word for item in everything for word in ("--set", item)))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["latent_relative_l2"] < 1e-3
