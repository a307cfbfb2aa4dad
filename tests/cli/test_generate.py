"""tamias generate: pictures, reports, reproducibility and the options. Films: test_films.py."""

import json
import signal
import subprocess
import time

import numpy as np
import pytest
from conftest import MODEL, PROGRAM, PROMPT, expect_error, generate, read_json, run
from PIL import Image


def test_writes_a_picture_with_its_settings(tmp_path):
    path = tmp_path / "picture.png"
    result = generate("--seed", 3, "--output", path)
    assert result.returncode == 0, result.stderr
    picture = Image.open(path)
    assert picture.size == (64, 64) and picture.mode == "RGB"
    settings = json.loads(picture.text["tamias"])
    assert settings["seed"] == 3 and settings["steps"] == 4
    assert picture.text["Description"] == PROMPT
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_same_seed_same_bytes(tmp_path):
    for name in ("a", "b"):
        assert generate("--seed", 5, "--output", tmp_path / f"{name}.png").returncode == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_another_seed_another_picture(tmp_path):
    for seed in (1, 2):
        assert generate("--seed", seed, "--output", tmp_path / f"{seed}.png").returncode == 0
    pictures = [np.asarray(Image.open(tmp_path / f"{seed}.png"), dtype=float) for seed in (1, 2)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 1


def test_several_pictures_are_numbered(tmp_path):
    assert generate("--num-images", 2, "--output", tmp_path / "p.png").returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p-1.png", "p-2.png"]


def test_thread_count_does_not_change_the_picture(tmp_path):
    pictures = []
    for threads in (1, 2):
        path = tmp_path / f"{threads}.png"
        assert generate("--threads", threads, "--output", path).returncode == 0
        pictures.append(np.asarray(Image.open(path), dtype=int))
    # Latents agree within 1e-5: a byte may round the other way, no more.
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_report_and_json(tmp_path):
    result = generate("--json", "--report", tmp_path / "r.json", "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == read_json(tmp_path / "r.json")
    assert [step["step"] for step in report["steps"]] == [0, 1, 2, 3]
    assert report["steps"][0]["kind"] == "full"
    assert report["planned_memory_bytes"] > 0


def test_latents_are_saved(tmp_path):
    path = tmp_path / "latents.safetensors"
    assert generate("--save-latents", path, "--output", tmp_path / "p.png").returncode == 0
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["latents"]["dtype"] == "F32"
    assert header["latents"]["shape"] == [1, 64, 32]


def test_quiet_prints_nothing(tmp_path):
    result = generate("--quiet", "--output", tmp_path / "p.png")
    assert (result.stdout, result.stderr) == ("", "")


def test_progress_is_plain_lines_without_a_terminal(tmp_path):
    result = generate("--output", tmp_path / "p.png")
    assert "denoise 4/4" in result.stderr
    assert "\r" not in result.stderr and "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (["--width", "1000000", "--height", "1000000"], ["1000000x1000000", "tokens"]),
        (["--width", "32768", "--height", "32768"], ["32768x32768", "tokens"]),
        (["--width", "4096", "--height", "8192"], ["4096x8192", "GiB"]),
        (["--width", "60"], ["width", "multiple of", "60"]),
        (["--width", "-64"], ["width"]),
        (["--frames", "5"], ["--frames: ", "makes pictures, not films"]),
        (["--fps", "8"], ["fps", "makes pictures, not films"]),
        (["--frames-dir", "frames"], ["frames-dir", "makes pictures, not films"]),
        (["--steps", "0"], ["steps", "1 to 1000"]),
        (["--steps", "many"], ["steps"]),
        (["--num-images", "0"], ["--num-images: "]),
        (["--true-cfg-scale", "nan"], ["--true-cfg-scale"]),
        (["--max-sequence-length", "100000"], ["--max-sequence-length: "]),
        (["--sparsity", "nonesuch"], ["nonesuch", "demo"]),
        (["--sparsity", "missing.yml"], ["missing.yml"]),
        (["--set", "attn.topkeys=0.1"], ["attn.topkeys", "attn.top_keys"]),
        (["--set", "attn.top_keys=lots"], ["attn.top_keys", "lots"]),
        (["--sparsity", "off", "--set", "attn.top_keys=0.1"], ["attn.top_keys", "off"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_bad_options_are_refused(arguments, fragments, tmp_path):
    result = generate(*arguments, "--output", tmp_path / "p.png")
    expect_error(result, 2, *fragments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extension", ["mp4", "MP4"])
def test_a_picture_is_not_written_as_a_film(extension, tmp_path):
    result = generate("--output", tmp_path / f"p.{extension}")
    expect_error(result, 2, "output", f"p.{extension}", "makes pictures, not films")
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_fails_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    result = generate("--output", tmp_path / "file/p.png")
    expect_error(result, 1, "file/p.png")


def test_a_full_disk_is_reported():
    expect_error(generate("--report", "/dev/full", "--output", "/dev/null"), 1, "/dev/full", "space")


def test_missing_model():
    result = run("generate", "--model", "nowhere", "--prompt", PROMPT)
    expect_error(result, 2, "nowhere")


def test_interrupt_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [PROGRAM, "generate", "--model", MODEL, "--prompt", PROMPT, "--width", "256", "--height", "256",
         "--steps", "1000", "--output", tmp_path / "p.png"],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "interrupted" in errors
    assert not list(tmp_path.iterdir())


def test_version():
    assert run("--version").stdout.startswith("tamias 0.")


def test_sparse_runs_report_sparsity(tmp_path):
    arguments = ["--model", MODEL, "--prompt", PROMPT, "--steps", "6", "--width", "256", "--height", "256"]
    result = run("generate", *arguments, "--json", "--output", tmp_path / "p.png",
                 "--set", "attn.top_keys=0.1", "--set", "attn.first_n_dense_layers=0",
                 "--set", "attn.full_step_schedule=null",
                 "--set", "step_caching.is_enabled=false")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert {step["kind"] for step in report["steps"]} == {"full", "sparse"}
    assert 0.2 < report["attention_sparsity"] < 0.9


