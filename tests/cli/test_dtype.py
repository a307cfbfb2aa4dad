"""--dtype: what the transformer computes with, and what is said of types that there are not."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from conftest import MODEL, expect_error, generate, run


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_report_names_the_type(tmp_path, dtype):
    result = generate("--dtype", dtype, "--json", "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["dtype"] == dtype


def test_weights_in_f16_are_not_rounded_unless_asked(tmp_path):
    pictures = {}
    for name in ["auto", "f32", "bf16"]:
        path = tmp_path / f"{name}.png"
        result = generate("--dtype", name, "--output", path)
        assert result.returncode == 0, result.stderr
        pictures[name] = path.read_bytes()
    assert pictures["auto"] == pictures["f32"]
    assert pictures["bf16"] != pictures["f32"]


def test_the_decoder_follows(tmp_path):
    latents = tmp_path / "latents.safetensors"
    result = generate("--dtype", "f32", "--save-latents", latents, "--output", tmp_path / "generated.png")
    assert result.returncode == 0, result.stderr
    pictures = {}
    for dtype in ["f32", "bf16"]:
        path = tmp_path / f"{dtype}.png"
        options = ["--model", MODEL, "--latents", latents, "--dtype", dtype, "--output", path]
        result = run("decode", *options)
        assert result.returncode == 0, result.stderr
        pictures[dtype] = np.asarray(Image.open(path), dtype=np.float64)
    assert np.array_equal(pictures["f32"], np.asarray(Image.open(tmp_path / "generated.png")))
    difference = np.abs(pictures["bf16"] - pictures["f32"])
    assert 0 < difference.mean() < 1


def test_bf16_is_planned():
    def plan(dtype):
        result = run("inspect", "--model", MODEL, "--dtype", dtype, "--json")
        assert result.returncode == 0, result.stderr
        plan = json.loads(result.stdout)["memory_accelerated"]
        return {entry["name"]: entry["bytes"] for entry in plan["entries"]}

    wide, narrow = plan("f32"), plan("bf16")
    name = "state: attention output cache"
    assert 2 * narrow[name] == wide[name]
    assert narrow["weights of transformer, in bf16"] > 0
    assert narrow["weights of vae, in bf16"] > 0
    assert not any(entry.endswith("in bf16") for entry in wide)
    name = "workspace of the decoder"
    # A processor that does not multiply bf16 widens a convolution's input.
    multiplies = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    assert 0.4 < narrow[name] / wide[name] < (0.8 if multiplies else 1.5)


def test_other_types_are_refused(tmp_path):
    result = generate("--dtype", "f16", "--output", tmp_path / "p.png")
    expect_error(result, 2, "dtype: expected auto, f32 or bf16, found 'f16'")
    assert list(tmp_path.iterdir()) == []
