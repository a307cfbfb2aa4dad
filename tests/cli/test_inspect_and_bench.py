"""tamias inspect and tamias bench."""

import json

import pytest
from conftest import MODEL, expect_error, run


def test_inspect_json():
    result = run("inspect", "--model", MODEL, "--width", "512", "--height", "512", "--json")
    assert result.returncode == 0, result.stderr
    info = json.loads(result.stdout)
    assert info["image_tokens"] == 4096 and info["text_tokens"] == 36
    assert [component["name"] for component in info["components"]] == [
        "text_encoder", "text_encoder_2", "transformer", "vae"]
    dense, sparse = info["memory_dense"], info["memory_accelerated"]
    assert sparse["peak_bytes"] > dense["peak_bytes"] > 2**20
    assert dense["peak_bytes"] <= sum(entry["bytes"] for entry in dense["entries"])


def test_inspect_table():
    result = run("inspect", "--model", MODEL)
    assert "FluxTransformer2DModel" in result.stdout
    assert "peak" in result.stdout


def test_inspect_of_a_size_no_machine_has():
    """The plan of an absurd size is shown, not refused: nothing runs."""
    result = run("inspect", "--model", MODEL, "--width", "4096", "--height", "8192", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["memory_accelerated"]["peak_bytes"] > 2**35


FIELDS = {"name", "shape", "seconds", "gflops", "peak_fraction", "speedup_over_dense",
          "arithmetic_fraction"}


@pytest.mark.parametrize(
    "arguments, count",
    [
        (["attention", "--tokens", "500", "--heads", "2", "--head-dim", "64", "--sparsity", "0.9"], 3),
        (["mlp", "--tokens", "300", "--model-dim", "64", "--sparsity", "0.7"], 2),
    ],
)
def test_bench_json(arguments, count):
    result = run("bench", *arguments, "--repeats", "1", "--json")
    assert result.returncode == 0, result.stderr
    measurements = json.loads(result.stdout)
    assert len(measurements) == count
    for measurement in measurements:
        assert set(measurement) == FIELDS
        assert measurement["seconds"] > 0


def test_bench_of_a_film_model_measures_a_layer_and_projects_the_model():
    result = run("bench", "mochi-480p", "--frames", "1", "--json")
    assert result.returncode == 0, result.stderr
    measurements = {one["name"]: one for one in json.loads(result.stdout)}
    assert len(measurements) == 8
    dense, full, sparse = list(measurements.values())[:3]
    assert dense["shape"] == "1 of 24 heads, N 1590 + 256, D 128"
    assert full["name"] == "full step, columns chosen" and "left out" in sparse["name"]
    # 64 steps, 2 calls, 48 layers, 24 heads; the first 2 layers and step 0 are dense, of the other
    # steps 5 are full.
    times = [one["seconds"] for one in (dense, full, sparse)]
    attention = measurements["projection: attention, sparse"]
    assert attention["shape"] == "6 full + 58 sparse steps"
    expected = 24 * 2 * (64 * 2 * times[0] + 46 * (times[0] + 5 * times[1] + 58 * times[2]))
    assert attention["seconds"] == pytest.approx(expected)
    assert measurements["projection: attention, dense"]["seconds"] == pytest.approx(
        24 * 2 * 64 * 48 * times[0])
    tokens = 1590 + 256
    linear = measurements["linear layers"]["seconds"] * tokens / 512
    assert measurements["projection: model, sparse"]["seconds"] == pytest.approx(
        expected + 2 * 64 * 48 * linear)


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (["wan-720p", "--heads", "41"], ["heads", "1 to 40", "41"]),
        (["hunyuan-720p", "--frames", "6"], ["frames", "multiple of 4", "6"]),
        (["mochi-480p", "--frames", "169"], ["frames", "1 to 163", "169"]),
        (["mochi-480p", "--repeats", "0"], ["repeats"]),
        (["attention", "--shape", "nonesuch"], ["nonesuch", "flux-1280x768"]),
        (["attention", "--tokens", "-5"], ["tokens"]),
        (["mlp", "--sparsity", "1.5"], ["sparsity", "1.5"]),
        (["model"], ["--model"]),
        (["model", "--model", "nowhere"], ["nowhere"]),
        (["model", "--model", MODEL, "--profile", "nosuch"], ["nosuch"]),
        (["all", "--model", MODEL, "--profile", "nosuch.yml"], ["nosuch.yml"]),
    ],
)
def test_bench_refuses(arguments, fragments):
    expect_error(run("bench", *arguments, timeout=30), 2, *fragments)  # before anything is measured
