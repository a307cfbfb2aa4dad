"""tamias decode, and that nothing finished is lost: results are written when they are done, latents outlive a decoding
that fails."""

import json
import os
import shutil
import signal
import struct
import subprocess

import numpy as np
import pytest
from conftest import MODEL, PROGRAM, PROMPT, ROOT, SMALL, expect_error, generate, read_json, run
from PIL import Image


def decode(*arguments, model=MODEL, **keywords):
    return run("decode", "--model", model, *arguments, **keywords)


def write_safetensors(path, **tensors):
    """fp32 arrays by name."""
    header, data = {}, b""
    for name, array in tensors.items():
        data += array.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape),
                        "data_offsets": [len(data) - 4 * array.size, len(data)]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_latents(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    begin, end = header["latents"]["data_offsets"]
    values = np.frombuffer(data[8 + size + begin : 8 + size + end], "<f4")
    return values.reshape(header["latents"]["shape"]), header["__metadata__"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures and their latents."""
    folder = tmp_path_factory.mktemp("pictures")
    result = generate("--num-images", 2, "--seed", 6, "--save-latents", folder / "l.safetensors",
                      "--output", folder / "p.png")
    assert result.returncode == 0, result.stderr
    return folder


def test_decoding_gives_the_same_files(pictures, tmp_path):
    result = decode("--latents", pictures / "l.safetensors", "--output", tmp_path / "p.png", "--report",
                    tmp_path / "r.json")
    assert result.returncode == 0, result.stderr
    for name in ("p-1.png", "p-2.png"):
        assert (tmp_path / name).read_bytes() == (pictures / name).read_bytes()
        assert f"wrote {tmp_path / name}" in result.stdout
    assert "decode 1/1" in result.stderr and "denoise" not in result.stderr
    report = read_json(tmp_path / "r.json")
    assert [entry["output"] for entry in report["written"]] == [
        str(tmp_path / "p-1.png"), str(tmp_path / "p-2.png")]
    assert report["seconds"]["decode"] > 0 and report["steps"] == []


def test_latents_say_what_they_are(pictures):
    values, text = read_latents(pictures / "l.safetensors")
    assert values.shape == (2, 64, 32)
    assert (text["family"], text["width"], text["height"]) == ("FluxPipeline", "64", "64")
    settings = json.loads(text["tamias"])
    assert settings["prompt"] == PROMPT and settings["seed"] == 6 and "version" in settings


def test_latents_of_others_need_their_size(pictures, tmp_path):
    values, _ = read_latents(pictures / "l.safetensors")
    write_safetensors(tmp_path / "l.safetensors", packed=values[:1])
    options = ["--latents", tmp_path / "l.safetensors", "--output", tmp_path / "p.png"]
    expect_error(decode(*options), 2, "width", "l.safetensors", "must be given")
    expect_error(decode(*options, "--width", 64), 2, "height", "must be given")
    expect_error(decode(*options, "--width", 64, "--height", 128), 2, "l.safetensors", "[64, 32]",
                 "[128, 32]")
    assert not (tmp_path / "p.png").exists()
    result = decode(*options, "--width", 64, "--height", 64, "--json", "--quiet")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["written"] == [{"image": 0, "output": str(tmp_path / "p.png")}]
    assert np.array_equal(Image.open(tmp_path / "p.png"), Image.open(pictures / "p-1.png"))


@pytest.mark.parametrize(
    "array, fragments",
    [
        (np.full((1, 64, 32), np.nan), ["infinite or not a number"]),
        (np.zeros((1, 64, 31)), ["[64, 31]", "[64, 32]"]),
        (np.zeros((64, 32)), ["latents", "[images, tokens, channels]", "[64, 32]"]),
        (np.zeros((0, 64, 32)), ["[0, 64, 32]"]),
    ],
)
def test_latents_that_cannot_be_are_refused(array, fragments, tmp_path):
    write_safetensors(tmp_path / "l.safetensors", latents=array)
    result = decode("--latents", tmp_path / "l.safetensors", "--width", 64, "--height", 64, "--output",
                    tmp_path / "p.png")
    expect_error(result, 2, str(tmp_path / "l.safetensors"), *fragments)
    assert [path.name for path in tmp_path.iterdir()] == ["l.safetensors"]


def test_files_that_are_no_latents_are_refused(tmp_path):
    (tmp_path / "cut").write_bytes((MODEL / "vae/diffusion_pytorch_model.safetensors").read_bytes()[:1000])
    expect_error(decode("--latents", tmp_path / "cut"), 2, "cut")
    expect_error(decode("--latents", tmp_path / "missing"), 2, "missing")
    expect_error(decode("--latents", MODEL / "vae/diffusion_pytorch_model.safetensors"), 2,
                 "expected the tensor 'latents'")
    expect_error(decode(), 2, "--latents")


def test_latents_that_no_machine_holds_are_refused(tmp_path):
    """A sparse file of 2 TiB: refused by its header."""
    shape = [2, 2**20, 2**18]
    size = 4 * shape[0] * shape[1] * shape[2]
    text = json.dumps({"latents": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    path = tmp_path / "l.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + size)
    expect_error(decode("--latents", path), 2, "l.safetensors", "GiB", "this machine's memory")


@pytest.fixture
def broken_decoder(model_copy):
    """A model whose decoder gives no numbers: decoding fails after the last step."""
    path = model_copy / "vae/diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    tensor = json.loads(data[8 : 8 + size])["decoder.conv_out.bias"]
    assert tensor["dtype"] == "F16"
    begin = 8 + size + tensor["data_offsets"][0]
    data[begin : begin + 2] = b"\x00\x7e"  # not a number
    path.write_bytes(data)
    return model_copy


def test_latents_outlive_a_decoding_that_fails(broken_decoder, tmp_path):
    whole = tmp_path / "whole.png"
    assert generate("--output", whole).returncode == 0
    output = tmp_path / "p.png"
    options = ["--prompt", PROMPT, *SMALL, "--output", output]
    result = run("generate", "--model", broken_decoder, *options, "--quiet")
    expect_error(result, 2, "decoder.conv_out.bias")
    kept = tmp_path / "p.png.latents.safetensors"
    assert f"tamias decode --model '{broken_decoder}' --latents '{kept}'" in result.stderr
    assert not output.exists()
    assert decode("--latents", kept, "--output", output).returncode == 0
    assert np.array_equal(Image.open(output), Image.open(whole))
    # In the file that was asked for, too.
    result = run("generate", "--model", broken_decoder, *options, "--save-latents", tmp_path / "l.safetensors")
    expect_error(result, 2, "decoder.conv_out.bias")
    assert np.array_equal(read_latents(tmp_path / "l.safetensors")[0], read_latents(kept)[0])


def test_latents_that_were_kept_are_not_written_over(broken_decoder, tmp_path):
    foreign = tmp_path / "p.png.latents.safetensors"
    foreign.write_text("of another program")
    kept = [tmp_path / f"p.png.latents-{i}.safetensors" for i in (2, 3)]
    arguments = ["--prompt", PROMPT, *SMALL, "--output", tmp_path / "p.png"]
    for seed, path in enumerate(kept):
        result = run("generate", "--model", broken_decoder, *arguments, "--seed", seed, "--quiet")
        expect_error(result, 2, "decoder.conv_out.bias")
        assert f"--latents '{path}'" in result.stderr
    before = [path.read_bytes() for path in kept]
    assert before[0] != before[1]
    result = run("generate", "--model", MODEL, *arguments)  # goes well
    assert result.returncode == 0, result.stderr
    assert sorted(tmp_path.glob("p.png*")) == sorted([tmp_path / "p.png", foreign, *kept])
    assert [path.read_bytes() for path in kept] == before and foreign.read_text() == "of another program"


def lose(folder, *arguments, **environment):
    """A generation in whose first step a folder goes, as a full disk would: the finished process."""
    process = subprocess.Popen([PROGRAM, "generate", "--model", MODEL, "--prompt", PROMPT, *SMALL, "--steps", "60",
                                "--sparsity", "off", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"} | environment)
    lines = process.stderr.readline()
    assert process.poll() is None
    shutil.rmtree(folder)
    output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, lines + errors)


def test_results_are_written_though_their_latents_cannot_be(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    result = lose(folder, "--num-images", 2, "--output", tmp_path / "p.png", "--save-latents", folder / "l.safetensors",
                  "--report", tmp_path / "r.json")
    expect_error(result, 1, str(folder / "l.safetensors"), "No such file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p-1.png", "p-2.png", "r.json"]
    assert Image.open(tmp_path / "p-2.png").size == (64, 64)
    report = read_json(tmp_path / "r.json")
    assert str(folder / "l.safetensors") in report["error"]
    assert [entry["image"] for entry in report["written"]] == [0, 1]


def test_latents_are_kept_elsewhere_where_the_result_finds_no_place(tmp_path):
    folder, temporary = tmp_path / "gone", tmp_path / "temporary"
    for path in (folder, temporary):
        path.mkdir()
    result = lose(folder, "--output", folder / "p.png", TMPDIR=str(temporary))
    expect_error(result, 1, str(folder / "p.png"), "No such file")
    kept = temporary / "p.png.latents.safetensors"
    assert f"tamias decode --model '{MODEL}' --latents '{kept}'" in result.stderr
    assert decode("--latents", kept, "--output", tmp_path / "p.png").returncode == 0
    assert Image.open(tmp_path / "p.png").size == (64, 64)


def test_compare_keeps_the_latents_too(broken_decoder, tmp_path):
    folder = tmp_path / "out"
    result = run("compare", "--model", broken_decoder, "--prompt", PROMPT, *SMALL, "--output", folder)
    expect_error(result, 2, "decoder.conv_out.bias")
    assert [path.name for path in folder.iterdir()] == ["dense.png.latents.safetensors"]
    assert "tamias decode" in result.stderr


def interrupt(arguments, line, **keywords):
    """Runs tamias until a line of its progress begins with `line`, then asks it to stop."""
    process = subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"}, **keywords)
    while not process.stderr.readline().startswith(line):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "interrupted" in errors
    return output


def test_pictures_of_a_batch_are_written_as_they_are_done(tmp_path):
    arguments = ["generate", "--model", MODEL, "--prompt", PROMPT, "--width", 64, "--height", 64, "--steps", 60,
                 "--num-images", 3, "--sparsity", "off", "--save-latents", tmp_path / "l.safetensors", "--report",
                 tmp_path / "r.json", "--output", tmp_path / "p.png"]
    output = interrupt(arguments, "result 3/3 denoise 6/60")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.safetensors", "p-1.png", "p-2.png", "r.json"]
    assert output.splitlines() == [f"wrote {tmp_path / name}" for name in ("p-1.png", "p-2.png")]
    assert read_latents(tmp_path / "l.safetensors")[0].shape == (2, 64, 32)
    report = read_json(tmp_path / "r.json")
    assert report["error"] == "interrupted"
    assert [entry["image"] for entry in report["written"]] == [0, 1]
    assert {step["image"] for step in report["steps"]} == {0, 1}


def test_compare_writes_the_dense_picture_when_it_is_done(tmp_path):
    arguments = ["compare", "--model", MODEL, "--prompt", PROMPT, "--width", 64, "--height", 64, "--steps", 60,
                 "--set", "step_caching.is_enabled=false", "--output", tmp_path]
    interrupt(arguments, "accelerated denoise 6/60")
    assert [path.name for path in tmp_path.iterdir()] == ["dense.png"]


# A film: HunyuanVideo in small, as in test_films.py.
TINY = ROOT / "tests/data/pipeline/tiny-hunyuan-video"


def test_films_are_decoded_with_their_frames(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for path in TINY.iterdir():
        (model / path.name).symlink_to(path)
    (model / "text_encoder_2").symlink_to(MODEL / "text_encoder")
    (model / "tokenizer_2").symlink_to(MODEL / "tokenizer")
    made, decoded = tmp_path / "made", tmp_path / "decoded"
    for folder in (made, decoded):
        folder.mkdir()
    latents = tmp_path / "l.safetensors"
    result = run("generate", "--model", model, "--prompt", PROMPT, "--width", 48, "--height", 32, "--frames", 9,
                 "--fps", 12, "--steps", 2, "--max-sequence-length", 40, "--save-latents", latents, "--output",
                 made / "f.mp4", "--frames-dir", made / "frames")
    assert result.returncode == 0, result.stderr
    result = decode("--latents", latents, "--output", decoded / "f.mp4", "--frames-dir", decoded / "frames",
                    model=model)
    assert result.returncode == 0, result.stderr
    assert (decoded / "f.mp4").read_bytes() == (made / "f.mp4").read_bytes()
    names = sorted(path.name for path in (made / "frames").iterdir())
    assert names == [f"frame-{i:04}.png" for i in range(1, 10)]
    for name in names:
        assert (decoded / "frames" / name).read_bytes() == (made / "frames" / name).read_bytes()
    expect_error(decode("--latents", latents, "--output", decoded / "f.png", model=model), 2, "output", "9 frames")
    expect_error(decode("--latents", latents), 2, "HunyuanVideoPipeline", "FluxPipeline")
    result = decode("--latents", latents, "--fps", 30, "--output", decoded / "fast.webp", "--json", model=model)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["settings"]["fps"] == 30
