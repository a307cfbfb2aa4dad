"""Films that begin with a picture, from the command line. The model is random: Wan 2.1 image-to-video in small."""

import json
import struct
import zlib

import numpy as np
import pytest
from conftest import MODEL, ROOT, expect_error, read_json, run
from PIL import Image, ImageOps

TINY = ROOT / "tests/data/pipeline/tiny-wan-image"
TEXT = ROOT / "tests/data/pipeline/tiny-wan"
PICTURE = TINY / "picture.png"
WEBP = ROOT / "tests/data/io/images/lossy.webp"
JPEG = ROOT / "tests/data/io/images/progressive.jpg"
PROMPT = "a small blue star moves to the left"
SMALL = ["--frames", "9", "--steps", "3", "--max-sequence-length", "40"]


def link(folder, source):
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "tokenizer").symlink_to(MODEL / "tokenizer_2")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return link(tmp_path_factory.mktemp("model") / "tiny", TINY)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    return link(tmp_path_factory.mktemp("text-model") / "tiny", TEXT)


def generate(model, *arguments, **keywords):
    return run("generate", "--model", model, "--prompt", PROMPT, *SMALL, *arguments, **keywords)


def settings_of(path):
    return json.loads(Image.open(path).text["tamias"])


def test_a_film_of_a_png(model, tmp_path):
    result = generate(model, "--image", PICTURE, "--width", "48", "--output", tmp_path / "f.mp4", "--frames-dir",
                      tmp_path / "frames")
    assert result.returncode == 0, result.stderr
    assert "wrote" in result.stdout and (tmp_path / "f.mp4").stat().st_size > 0
    first = tmp_path / "frames/frame-0001.png"
    assert Image.open(first).size == (48, 32)  # 70x50 beside a width of 48
    assert settings_of(first)["picture"] == "70x50"


def test_a_film_of_a_jpeg_is_another(model, tmp_path):
    pixels = []
    for name, picture in (("png", PICTURE), ("jpeg", JPEG)):
        result = generate(model, "--image", picture, "--width", "64", "--height", "48", "--frames", "1", "--output",
                          tmp_path / f"{name}.png")
        assert result.returncode == 0, result.stderr
        pixels.append(np.asarray(Image.open(tmp_path / f"{name}.png"), dtype=float))
    assert np.abs(pixels[0] - pixels[1]).mean() > 0.1


def test_pictures_are_turned_upright_whatever_their_format(model, tmp_path):
    scene = np.zeros((80, 80, 3), np.uint8)
    scene[:40] = (255, 0, 0)
    scene[:, :20] = (0, 255, 0)
    turned = Image.fromarray(scene)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    turned.save(tmp_path / "turned.webp", exif=exif, lossless=True)
    ImageOps.exif_transpose(Image.open(tmp_path / "turned.png")).save(tmp_path / "upright.png")
    films = []
    for name in ("turned.png", "turned.webp", "upright.png"):
        result = generate(model, "--image", tmp_path / name, "--width", "48", "--height", "48", "--frames", "1",
                          "--output", tmp_path / f"of-{name}.png")
        assert result.returncode == 0, result.stderr
        films.append(np.asarray(Image.open(tmp_path / f"of-{name}.png")))
    assert (films[0] == films[2]).all() and (films[1] == films[2]).all()


def test_tune_takes_the_picture(model, tmp_path):
    arguments = ["tune", "--model", model, "--prompt", PROMPT, *SMALL, "--width", "48", "--height", "48", "--frames", "1",
                 "--min-psnr", "1", "--set", "attn.first_n_dense_layers=0", "--quiet", "--json", "--output"]
    for name, picture in (("png", PICTURE), ("jpeg", JPEG)):
        result = run(*arguments, tmp_path / f"{name}.yml", "--image", picture)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["trials"]
        assert (tmp_path / f"{name}.yml").stat().st_size > 0
    expect_error(run(*arguments, tmp_path / "x.yml", "--image", tmp_path / "none.png"), 2, "none.png", "cannot open")
    thin = tmp_path / "thin.png"
    Image.new("RGB", (500, 5)).save(thin)
    expect_error(run(*arguments, tmp_path / "x.yml", "--image", thin), 2, "image", "500x5")


def test_compare_takes_the_picture(model, tmp_path):
    result = run("compare", "--model", model, "--prompt", PROMPT, *SMALL, "--image", PICTURE, "--width", "64",
                 "--output", tmp_path / "out", "--set", "attn.first_n_dense_layers=0")
    assert result.returncode == 0, result.stderr
    assert read_json(tmp_path / "out/report.json")["psnr"] > 20


def test_inspect_lists_the_components_and_plans_the_encoders(model):
    result = run("inspect", "--model", model, "--width", "64", "--height", "64", "--frames", "9", "--json")
    assert result.returncode == 0, result.stderr
    info = json.loads(result.stdout)
    assert info["needs_image"] is True
    assert [(part["name"], part["class"]) for part in info["components"]] == [
        ("text_encoder", "UMT5EncoderModel"), ("image_encoder", "CLIPVisionModel"),
        ("transformer", "WanTransformer3DModel"), ("vae", "AutoencoderKLWan")]
    plan = {entry["name"]: entry["bytes"] for entry in info["memory_dense"]["entries"]}
    assert plan["workspace of the picture's encoders"] > 64 * 64 * 6 * 4
    assert plan["picture, encoded"] > 0
    assert "--image" in run("inspect", "--model", model).stdout


def test_inspect_of_a_size_no_machine_has(model):
    result = run("inspect", "--model", model, "--width", "1048576", "--height", "16", "--frames", "1", "--json")
    assert result.returncode == 0, result.stderr


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HUGE = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 8000, 8, 2, 0, 0, 0)) + chunk(
    b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "name, data, fragments",
    [
        ("none.png", None, ["none.png", "cannot open"]),
        ("empty.png", b"", ["empty.png", "neither PNG, JPEG nor WebP"]),
        ("text.png", b"#!/bin/sh\n", ["text.png", "neither PNG, JPEG nor WebP"]),
        ("cut.png", PICTURE.read_bytes()[:300], ["cut.png", "not a readable PNG"]),
        ("cut.jpg", JPEG.read_bytes()[:-100], ["cut.jpg", "not a readable JPEG", "cut off"]),
        ("cut.webp", WEBP.read_bytes()[:-9], ["cut.webp", "not a readable WebP", "cut off"]),
        ("film.webp", (WEBP.parent / "animated.webp").read_bytes(), ["film.webp", "animated WebP"]),
        ("huge.png", HUGE, ["huge.png", "cut off"]),
        ("wide.png", HUGE[:16] + struct.pack(">I", 2**31 - 1) + HUGE[20:], ["wide.png", "not a readable PNG"]),
    ],
)
def test_bad_pictures_are_refused(model, tmp_path, name, data, fragments):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    output = tmp_path / "out"
    output.mkdir()
    expect_error(generate(model, "--image", path, "--output", output / "f.mp4"), 2, *fragments)
    assert not list(output.iterdir())


def test_a_long_thin_picture_is_refused(model, tmp_path):
    Image.new("RGB", (500, 5)).save(tmp_path / "thin.png")
    expect_error(generate(model, "--image", tmp_path / "thin.png", cwd=tmp_path), 2, "image", "500x5")


def test_the_picture_is_not_written_over(model, tmp_path):
    picture = tmp_path / "in.png"
    picture.write_bytes(PICTURE.read_bytes())
    (tmp_path / "frame-0009.png").symlink_to("in.png")
    for output in (["--frames", "1", "--output", picture], ["--output", tmp_path / "f.mp4", "--frames-dir", tmp_path]):
        result = generate(model, "--image", picture, *output)
        expect_error(result, 2, output[-2], "--image")
        assert "denoise" not in result.stderr
    assert picture.read_bytes() == PICTURE.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("command", ["generate", "compare", "tune"])
def test_a_picture_is_required(model, tmp_path, command):
    result = run(command, "--model", model, "--prompt", PROMPT, *SMALL, "--output", tmp_path / "f.mp4")
    expect_error(result, 2, "image", "--image FILE is missing")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["generate", "compare", "tune"])
def test_other_models_refuse_a_picture(text_model, tmp_path, command):
    for folder, what in ((text_model, "films"), (MODEL, "pictures")):
        result = run(command, "--model", folder, "--prompt", PROMPT, "--image", PICTURE, "--output",
                     tmp_path / ("f.mp4" if what == "films" else "p.png"))
        expect_error(result, 2, f"image: this model makes {what} of text alone")
        assert not list(tmp_path.iterdir())
