"""--lora: what it takes, what it changes, and what is said of files that are not LoRAs of the model."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import MODEL, PROMPT, expect_error, generate, read_json, run
from PIL import Image

numpy_files = pytest.importorskip("safetensors.numpy")

LAYER = "transformer.transformer_blocks.0.attn.to_q"


def write(path, layer=LAYER, shape=(256, 256), rank=4, factor=0.5, extra=()):
    """A LoRA of one layer [N, K]."""
    random = np.random.default_rng(0)
    tensors = {
        f"{layer}.lora_A.weight": random.standard_normal((rank, shape[1]), dtype=np.float32),
        f"{layer}.lora_B.weight": factor * random.standard_normal((shape[0], rank), dtype=np.float32),
    }
    numpy_files.save_file(tensors | {name: np.ones((2, 2), np.float32) for name in extra}, path)
    return path


@pytest.fixture
def lora(tmp_path):
    return write(tmp_path / "red.safetensors")


def pixels(tmp_path, *arguments):
    result = generate("--sparsity", "off", "--output", tmp_path / "p.png", *arguments)
    assert result.returncode == 0, result.stderr
    return np.asarray(Image.open(tmp_path / "p.png").convert("RGB"), dtype=int)


def test_its_scale_is_what_it_is_multiplied_with(lora, tmp_path):
    plain, whole = pixels(tmp_path), pixels(tmp_path, "--lora", lora)
    assert np.abs(plain - whole).max() > 8
    np.testing.assert_array_equal(pixels(tmp_path, "--lora", f"{lora}:1"), whole)
    np.testing.assert_array_equal(pixels(tmp_path, "--lora", f"{lora}:0"), plain)
    halves = pixels(tmp_path, "--lora", f"{lora}:0.25", "--lora", f"{lora}:0.75")
    assert np.abs(halves - whole).max() <= 2
    settings = json.loads(Image.open(tmp_path / "p.png").text["tamias"])
    assert settings["loras"] == [
        {"file": "red.safetensors", "scale": 0.25}, {"file": "red.safetensors", "scale": 0.75},
    ]  # fmt: skip


def test_the_plan_counts_what_it_changes(lora):
    plan = json.loads(run("inspect", "--model", MODEL, "--lora", lora, "--json").stdout)["memory_dense"]["entries"]
    sizes = {entry["name"]: entry["bytes"] for entry in plan}
    assert sizes["weights of transformer, with LoRAs"] == 256 * 256 * 2


def test_sparse_steps_and_comparisons_have_it(lora, tmp_path):
    result = run("compare", "--model", MODEL, "--prompt", PROMPT, "--width", "64", "--height", "64", "--steps", "4",
                 "--lora", f"{lora}:-0.5", "--output", tmp_path / "out")  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = read_json(tmp_path / "out/report.json")
    for way in ("dense", "accelerated"):
        assert report[way]["settings"]["loras"] == [{"file": "red.safetensors", "scale": -0.5}]


@pytest.mark.parametrize(
    "keywords, fragments",
    [
        ({"layer": "transformer.blocks.0.to_q"}, ["has no linear layer 'blocks.0.to_q'", "of another model"]),
        ({"shape": (256, 128)}, ["expected factors of a layer [256, 256], found [256, 128]"]),
        ({"layer": "text_encoder_3.q"}, ["has no linear layer 'text_encoder_3.q'"]),
        ({"extra": [f"{LAYER}.lora_B.bias"]}, ["lora_B.bias", "not a part of a LoRA"]),
        ({"extra": ["lora_unet_double_blocks_0_img_attn_proj.lokr_w1"]}, ["lokr_w1", "LoKr"]),
    ],
)
def test_files_of_other_models_and_kinds(tmp_path, keywords, fragments):
    expect_error(generate("--lora", write(tmp_path / "a.safetensors", **keywords)), 2, "a.safetensors: tensor '",
                 *fragments)  # fmt: skip


def test_broken_values(lora, tmp_path):
    expect_error(generate("--lora", f"{lora}:much"), 2, "--lora", "much")
    expect_error(generate("--lora", f"{lora}:nan"), 2, "--lora", "nan")
    expect_error(generate("--lora", ""), 2, "--lora")
    expect_error(generate("--lora", tmp_path / "none.safetensors"), 2, "none.safetensors")
    expect_error(generate("--lora", ":1"), 2, "--lora", "FILE[:SCALE]")
    expect_error(generate("--lora", f"{lora}:1e300"), 2, "red.safetensors", "beyond fp32")
    expect_error(generate("--lora-2", lora), 2, "--lora-2", "red.safetensors", "no transformer_2")
    (tmp_path / "text.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    expect_error(generate("--lora", tmp_path / "text.safetensors"), 2, "text.safetensors", "Git LFS")
    lora.write_bytes(lora.read_bytes()[:-8])
    expect_error(generate("--lora", lora), 2, "red.safetensors")


def test_a_name_of_any_bytes(lora, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.safetensors"
    shutil.copy(lora, name)
    result = run("inspect", "--model", MODEL, "--lora", os.fsdecode(name), "--json")
    assert result.returncode == 0, result.stderr
    result = generate("--lora", os.fsdecode(name), "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr


def test_results_are_not_written_over_it(lora):
    before = lora.read_bytes()
    expect_error(generate("--lora", lora, "--report", lora), 2, "--lora", "--report", "red.safetensors")
    assert lora.read_bytes() == before
