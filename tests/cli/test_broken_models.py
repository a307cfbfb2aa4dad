"""Broken checkpoints get one clear line that names the file and the field; nothing crashes."""

import json
import os
import shutil
import struct
import subprocess

import pytest
from conftest import MODEL, PROGRAM, PROMPT, SMALL, expect_error, run

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def generate(model, tmp_path):
    output = tmp_path / "out"
    output.mkdir(exist_ok=True)
    result = run("generate", "--model", model, "--prompt", PROMPT, *SMALL, "--output", output / "p.png")
    assert not list(output.iterdir()) or result.returncode == 0
    return result


def read_header(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_header(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def replace_in_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("size", [0, 7, 8, 100, 100_000, -1])
def test_cut_off_weights(model_copy, tmp_path, size):
    path = model_copy / TRANSFORMER
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    expect_error(generate(model_copy, tmp_path), 2, TRANSFORMER)


def test_weights_that_are_cut_off_while_they_are_read(model_copy, tmp_path):
    process = subprocess.Popen(
        [PROGRAM, "generate", "--model", model_copy, "--prompt", PROMPT, "--width", "128", "--height", "128",
         "--steps", "1000", "--sparsity", "off", "--output", tmp_path / "p.png"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while "denoise" not in (line := process.stderr.readline()):
        assert line
    os.truncate(model_copy / TRANSFORMER, 1000)
    errors = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 1
    assert "was cut off or replaced while it was read" in errors[-1]
    assert not (tmp_path / "p.png").exists()


def test_missing_tensor(model_copy, tmp_path):
    path = model_copy / TRANSFORMER
    header, data = read_header(path)
    header["renamed"] = header.pop("x_embedder.weight")
    write_header(path, header, data)
    expect_error(generate(model_copy, tmp_path), 2, "/transformer", "x_embedder.weight", "missing")


def test_wrong_shape(model_copy, tmp_path):
    path = model_copy / TRANSFORMER
    header, data = read_header(path)
    header["x_embedder.weight"]["shape"].reverse()
    write_header(path, header, data)
    expect_error(generate(model_copy, tmp_path), 2, "x_embedder.weight", "expected shape [256, 32]")


def test_nan_weights_are_named(model_copy, tmp_path):
    path = model_copy / TRANSFORMER
    header, data = read_header(path)
    begin, end = header["x_embedder.bias"]["data_offsets"]
    write_header(path, header, data[:begin] + b"\xff" * (end - begin) + data[end:])
    expect_error(generate(model_copy, tmp_path), 2, TRANSFORMER, "x_embedder.bias")


def test_flipped_bits_in_the_header(model_copy, tmp_path):
    path = model_copy / TRANSFORMER
    original = path.read_bytes()
    for position in (0, 3, 7, 8, 20, 333, 1000):
        broken = bytearray(original)
        broken[position] ^= 0x41
        path.write_bytes(bytes(broken))
        result = generate(model_copy, tmp_path)
        assert result.returncode in (0, 2), result.stderr
        if result.returncode == 2:
            expect_error(result, 2, "transformer")


def test_absurd_config(model_copy, tmp_path):
    replace_in_json(model_copy / "transformer/config.json", num_layers=10**12)
    expect_error(generate(model_copy, tmp_path), 2, "transformer/config.json", "num_layers")


def test_config_of_another_size(model_copy, tmp_path):
    replace_in_json(model_copy / "transformer/config.json", num_attention_heads=5)
    expect_error(generate(model_copy, tmp_path), 2, TRANSFORMER)


def test_config_that_is_not_json(model_copy, tmp_path):
    (model_copy / "vae/config.json").write_text("{")
    expect_error(generate(model_copy, tmp_path), 2, "vae/config.json")


def test_unknown_family(model_copy, tmp_path):
    replace_in_json(model_copy / "model_index.json", _class_name="StablePipeline")
    expect_error(generate(model_copy, tmp_path), 2, "model_index.json", "StablePipeline")


def test_unknown_scheduler_option(model_copy, tmp_path):
    replace_in_json(model_copy / "scheduler/scheduler_config.json", use_beta_sigmas=True)
    expect_error(generate(model_copy, tmp_path), 2, "scheduler_config.json", "use_beta_sigmas")


@pytest.mark.parametrize(
    "name", ["EulerDiscreteScheduler", "DDIMScheduler", "MyScheduler", "FlowMatchHeunDiscreteScheduler"]
)
def test_scheduler_that_is_not_served(model_copy, tmp_path, name):
    replace_in_json(model_copy / "model_index.json", scheduler=["diffusers", name])
    expect_error(generate(model_copy, tmp_path), 2, "model_index.json", name, "FlowMatchEulerDiscreteScheduler")


def test_scheduler_that_predicts_noise(model_copy, tmp_path):
    replace_in_json(model_copy / "model_index.json", scheduler=["diffusers", "DPMSolverMultistepScheduler"])
    expect_error(generate(model_copy, tmp_path), 2, "scheduler_config.json", "prediction_type", "flow_prediction")


def test_no_scheduler_in_the_index(model_copy, tmp_path):
    replace_in_json(model_copy / "model_index.json", scheduler=[None, None])
    expect_error(generate(model_copy, tmp_path), 2, "model_index.json", "scheduler")


def test_scheduler_of_the_index_wins_over_that_of_its_config(model_copy, tmp_path):
    before = generate(model_copy, tmp_path)
    picture = (tmp_path / "out/p.png").read_bytes()
    replace_in_json(model_copy / "scheduler/scheduler_config.json", _class_name="DDIMScheduler")
    after = generate(model_copy, tmp_path)
    assert before.returncode == after.returncode == 0, after.stderr
    assert (tmp_path / "out/p.png").read_bytes() == picture
    assert "written by DDIMScheduler" in after.stderr
    replace_in_json(model_copy / "model_index.json", scheduler=["diffusers", "FlowMatchLCMScheduler"])
    assert generate(model_copy, tmp_path).returncode == 0
    assert (tmp_path / "out/p.png").read_bytes() != picture
    inspected = json.loads(run("inspect", "--model", model_copy, "--json").stdout)
    assert inspected["scheduler"] == "FlowMatchLCMScheduler"


@pytest.mark.parametrize("component", ["scheduler", "transformer", "vae", "text_encoder", "tokenizer", "tokenizer_2"])
def test_missing_component(model_copy, tmp_path, component):
    shutil.rmtree(model_copy / component)
    expect_error(generate(model_copy, tmp_path), 2, component)


def test_broken_tokenizer(model_copy, tmp_path):
    (model_copy / "tokenizer_2/tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    expect_error(generate(model_copy, tmp_path), 2, "tokenizer_2/tokenizer.json")


def test_unknown_default(model_copy, tmp_path):
    (model_copy / "tamias.json").write_text('{"widht": 512}')
    expect_error(generate(model_copy, tmp_path), 2, "tamias.json", "widht")


def test_prompt_of_unknown_words_is_served(tmp_path):
    result = run("generate", "--model", MODEL, "--prompt", "ÿþ ☃ 漢字", *SMALL, "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr


def test_prompt_that_is_not_utf8_is_refused(tmp_path):
    result = run("generate", "--model", MODEL, "--prompt", os.fsdecode(b"\xff\xfe"), *SMALL,
                 "--output", tmp_path / "p.png", errors="surrogateescape")
    expect_error(result, 2, "UTF-8")
