"""Films from the command line, checked with ffprobe, ffmpeg and Pillow. The model is random: HunyuanVideo in small,
with the demo model's CLIP."""

import json
import signal
import subprocess

import numpy as np
import pytest
from conftest import MODEL, PROGRAM, ROOT, expect_error, read_json, run
from PIL import Image

TINY = ROOT / "tests/data/pipeline/tiny-hunyuan-video"
PROMPT = "a small blue star moves to the left"
# 2 x 3 tokens by 3 latent frames: a second of work.
SMALL = ["--width", "48", "--height", "32", "--frames", "9", "--steps", "4", "--max-sequence-length", "40"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    for path in TINY.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "text_encoder_2").symlink_to(MODEL / "text_encoder")
    (folder / "tokenizer_2").symlink_to(MODEL / "tokenizer")
    return folder


def generate(model, *arguments, **keywords):
    return run("generate", "--model", model, "--prompt", PROMPT, *SMALL, *arguments, **keywords)


def probe(path):
    result = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", path],
        capture_output=True, check=True)
    report = json.loads(result.stdout)
    return report["streams"][0], report["format"]


def decode(path, width, height):
    result = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-sws_flags",
         "accurate_rnd+bicubic", "-"],
        capture_output=True, check=True)
    return np.frombuffer(result.stdout, np.uint8).reshape(-1, height, width, 3).astype(float)


def luma_psnr(a, b):
    """Of the luma (ITU-R BT.709): films keep a quarter of the colour, and a random model's colours are noise."""
    return 10 * np.log10(255**2 / np.square((a - b) @ [0.2126, 0.7152, 0.0722]).mean())


@pytest.fixture(scope="module")
def film(model, tmp_path_factory):
    """One film as MP4 and as PNG frames."""
    folder = tmp_path_factory.mktemp("film")
    result = generate(model, "--fps", "12", "--seed", "3", "--output", folder / "film.mp4",
                      "--frames-dir", folder / "frames")
    assert result.returncode == 0, result.stderr
    return folder, result


def frames_of(folder):
    return np.stack([np.asarray(Image.open(path), dtype=float) for path in sorted(folder.iterdir())])


def test_mp4_has_the_frames_the_rate_and_the_size(film):
    stream, container = probe(film[0] / "film.mp4")
    assert stream["codec_name"] == "h264" and stream["pix_fmt"] == "yuv420p"
    assert (stream["width"], stream["height"]) == (48, 32)
    assert stream["nb_read_frames"] == "9"
    assert stream["r_frame_rate"] == "12/1"
    assert float(container["duration"]) == pytest.approx(9 / 12, abs=1e-3)
    assert container["tags"]["title"] == PROMPT
    settings = json.loads(container["tags"]["comment"])
    assert settings["seed"] == 3 and settings["num_frames"] == 9 and settings["fps"] == 12


def test_png_frames_are_the_film(film):
    folder, result = film
    assert sorted(path.name for path in folder.iterdir()) == ["film.mp4", "frames"]
    assert [path.name for path in sorted((folder / "frames").iterdir())] == [
        f"frame-{i:04}.png" for i in range(1, 10)]
    assert json.loads(Image.open(folder / "frames/frame-0001.png").text["tamias"])["seed"] == 3
    frames = frames_of(folder / "frames")
    decoded = decode(folder / "film.mp4", 48, 32)
    assert decoded.shape == frames.shape
    assert luma_psnr(decoded, frames) > 35
    for line in ("film.mp4", "frames"):
        assert line in result.stdout


def test_progress_counts_the_pieces_of_the_decoder(film):
    assert "denoise 4/4" in film[1].stderr
    assert "decode" in film[1].stderr


def test_webp_is_animated(model, film, tmp_path):
    path = tmp_path / "film.webp"
    result = generate(model, "--fps", "10", "--seed", "3", "--output", path)
    assert result.returncode == 0, result.stderr
    film_file = Image.open(path)
    assert film_file.format == "WEBP" and film_file.n_frames == 9 and film_file.size == (48, 32)
    assert film_file.info["loop"] == 0
    frames = frames_of(film[0] / "frames")
    for i in range(9):
        film_file.seek(i)
        film_file.load()
        assert film_file.info["duration"] == pytest.approx(100, abs=1)
        assert luma_psnr(np.asarray(film_file.convert("RGB"), dtype=float), frames[i]) > 35


def test_same_options_same_bytes(model, film, tmp_path):
    path = tmp_path / "again.mp4"
    result = generate(model, "--fps", "12", "--seed", "3", "--output", path)
    assert result.returncode == 0, result.stderr
    assert path.read_bytes() == (film[0] / "film.mp4").read_bytes()


def test_one_frame_is_a_picture(model, tmp_path):
    result = generate(model, "--frames", "1", "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "p.png").size == (48, 32)


def test_one_frame_is_a_picture_of_any_format(model, tmp_path):
    for name, format in (("p.webp", "WEBP"), ("p.jpg", "JPEG")):
        result = generate(model, "--frames", "1", "--quality", "80", "--output", tmp_path / name)
        assert result.returncode == 0, result.stderr
        picture = Image.open(tmp_path / name)
        assert picture.format == format and getattr(picture, "n_frames", 1) == 1


def test_a_film_to_standard_output(model, tmp_path):
    result = subprocess.run([PROGRAM, "generate", "--model", model, "--prompt", PROMPT, *SMALL, "--output", "-"],
                            capture_output=True, timeout=120, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout[4:8] == b"ftyp" and not list(tmp_path.iterdir())
    (tmp_path / "f.mp4").write_bytes(result.stdout)
    assert probe(tmp_path / "f.mp4")[0]["nb_read_frames"] == "9"


def test_frames_of_an_earlier_film_do_not_pass_for_this_one(model, tmp_path):
    frames = tmp_path / "frames"
    arguments = ["--output", tmp_path / "f.mp4", "--frames-dir", frames]
    assert generate(model, *arguments).returncode == 0
    before = {path.name: path.read_bytes() for path in frames.iterdir()}
    expect_error(generate(model, *arguments, "--frames", "5"), 2, "frames-dir", "frame-000", "remove it")
    expect_error(generate(model, *arguments, "--num-images", "2"), 2, "frames-dir", "frame-000", "remove it")
    assert {path.name: path.read_bytes() for path in frames.iterdir()} == before
    (frames / "notes.txt").write_text("not ours")
    assert generate(model, *arguments, "--seed", "1").returncode == 0  # as many: written over
    assert len(list(frames.iterdir())) == 10


def test_films_of_an_earlier_run_do_not_pass_for_this_one(model, tmp_path):
    frames = tmp_path / "frames"
    for left in ("film-3", "film-0"):
        (frames / left).mkdir(parents=True)
        arguments = ["--output", tmp_path / "f.mp4", "--frames-dir", frames, "--num-images", "2"]
        expect_error(generate(model, *arguments), 2, "frames-dir", left, "remove it")
        (frames / left).rmdir()
    (frames / "film-1").mkdir()
    (frames / "film-1/frame-0010.png").write_text("of a longer one")
    expect_error(generate(model, *arguments), 2, "film-1/frame-0010.png")


def test_a_film_too_large_for_its_format_is_refused_before_the_work(model, tmp_path):
    result = generate(model, "--width", "8208", "--height", "16", "--frames", "5", "--output", tmp_path / "f.mp4")
    expect_error(result, 2, "8208x16", "8192")
    assert not list(tmp_path.iterdir())


def test_quality_is_of_pictures(model, tmp_path):
    for name in ("f.mp4", "f.webp"):
        expect_error(generate(model, "--quality", "80", "--output", tmp_path / name), 2, "quality", name)


def test_several_films_are_numbered(model, tmp_path):
    result = generate(model, "--num-images", "2", "--output", tmp_path / "f.mp4", "--frames-dir", tmp_path / "frames")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f-1.mp4", "f-2.mp4", "frames"]
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["film-1", "film-2"]


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (["--output", "f.png"], ["f.png", "9 frames", ".mp4 or .webp", "--frames-dir"]),
        (["--output", "f.avi"], ["f.avi", ".mp4 or .webp"]),
        (["--output", "f.mp4", "--frames", "0"], ["--frames: ", "1 to"]),
        (["--output", "f.mp4", "--frames", "-3"], ["--frames: "]),
        (["--output", "f.mp4", "--frames", "8"], ["--frames: ", "multiple of 4", "nearest: 9"]),
        (["--output", "f.mp4", "--frames", "1000000"], ["--frames: "]),
        (["--output", "f.mp4", "--frames", "65533", "--width", "4096", "--height", "4096"], ["65533 frames", "tokens"]),
        (["--output", "f.mp4", "--fps", "0"], ["fps", "0.01 to 1000"]),
        (["--output", "f.mp4", "--fps", "nan"], ["fps"]),
        (["--output", "f.mp4", "--fps", "fast"], ["fps"]),
    ],
)
def test_bad_films_are_refused(model, arguments, fragments, tmp_path):
    expect_error(generate(model, *arguments, cwd=tmp_path), 2, *fragments)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported(model, tmp_path):
    (tmp_path / "f.mp4").symlink_to("/dev/full")
    expect_error(generate(model, "--output", tmp_path / "f.mp4"), 1, "f.mp4", "space")


def test_interrupt_leaves_nothing_behind(model, tmp_path):
    process = subprocess.Popen(
        [PROGRAM, "generate", "--model", model, "--prompt", PROMPT, *SMALL, "--steps", "1000", "--width", "512",
         "--height", "512", "--output", tmp_path / "f.mp4"],
        stderr=subprocess.PIPE, text=True)
    while "denois" not in process.stderr.readline():  # until it is under way
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in errors
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def comparison(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "out"
    result = run("compare", "--model", model, "--prompt", PROMPT, *SMALL, "--output", folder,
                 "--set", "attn.first_n_dense_layers=0")
    assert result.returncode == 0, result.stderr
    return folder, result


def test_compare_writes_four_films(comparison):
    folder, result = comparison
    assert sorted(path.name for path in folder.iterdir()) == [
        "accelerated.mp4", "dense.mp4", "difference.mp4", "report.json", "side-by-side.mp4"]
    stream, _ = probe(folder / "side-by-side.mp4")
    assert (stream["width"], stream["height"], stream["nb_read_frames"]) == (2 * 48 + 8, 32, "9")
    assert "MP4" in result.stdout and "PSNR" in result.stdout


def test_compare_reports_every_frame(comparison):
    report = read_json(comparison[0] / "report.json")
    frames = report["frames"]
    assert [(frame["image"], frame["frame"]) for frame in frames] == [(0, i) for i in range(9)]
    for measure in ("psnr", "ssim"):
        assert report[measure] == pytest.approx(np.mean([frame[measure] for frame in frames]))


def test_inspect_shows_the_frames(model):
    arguments = ["inspect", "--model", model, "--width", "48", "--height", "32", "--set",
                 "attn.first_n_dense_layers=0"]
    plans = {}
    for frames in (9, 33):
        result = run(*arguments, "--frames", frames, "--json")
        assert result.returncode == 0, result.stderr
        info = json.loads(result.stdout)
        assert info["num_frames"] == frames
        plans[frames] = {entry["name"]: entry["bytes"] for entry in info["memory_accelerated"]["entries"]}
    assert plans[33]["film"] == 33 * 48 * 32 * 3
    assert plans[33]["state: attention selection"] > plans[9]["state: attention selection"]
    assert "Film of 33 frames" in run(*arguments, "--frames", 33).stdout
