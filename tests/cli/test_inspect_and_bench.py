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


@pytest.mark.parametrize(
    "arguments, fragments",
    [
        (["attention", "--shape", "nonesuch"], ["nonesuch", "flux-1280x768"]),
        (["attention", "--tokens", "-5"], ["tokens"]),
        (["mlp", "--sparsity", "1.5"], ["sparsity", "1.5"]),
        (["model"], ["--model"]),
        (["model", "--model", "nowhere"], ["nowhere"]),
    ],
)
def test_bench_refuses(arguments, fragments):
    expect_error(run("bench", *arguments), 2, *fragments)
