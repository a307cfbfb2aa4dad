"""--device: where a generation runs, and what is said where there is no such device."""

import json

import pytest
from conftest import MODEL, expect_error, generate, run

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def without_gpu(monkeypatch):
    """The driver, where there is one, shows no device."""
    for name, value in NO_GPU.items():
        monkeypatch.setenv(name, value)


def test_the_report_names_the_device(tmp_path):
    result = generate("--device", "cpu", "--json", "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["device"] == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_missing_gpu_is_one_line(without_gpu, tmp_path, device):
    expect_error(generate("--device", device, "--output", tmp_path / "p.png"), 1, "GPU ")
    expect_error(run("inspect", "--model", MODEL, "--device", device), 1, "GPU ")
    assert list(tmp_path.iterdir()) == []


def test_compare_takes_it_as_well(without_gpu, tmp_path):
    arguments = ["--model", MODEL, "--prompt", "a star", "--output", tmp_path / "out"]
    expect_error(run("compare", *arguments, "--device", "cuda"), 1, "GPU 0")


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cuda:-1"])
def test_unknown_devices_are_refused(tmp_path, device):
    result = generate(f"--device={device}", "--output", tmp_path / "p.png")
    expect_error(result, 2, "expected cpu, cuda or cuda:<number>")


def test_the_plan_has_a_place_for_a_gpu(tmp_path):
    result = run("inspect", "--model", MODEL, "--json")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)["memory_accelerated"]
    assert plan["device_bytes"] == 0 and plan["device_entries"] == []


def test_plans_can_be_made_for_a_gpu_that_is_not_there(without_gpu):
    plans = {}
    for limit in ("1GiB", "250MiB", "110MiB"):
        arguments = ["--model", MODEL, "--device", "cuda", "--max-gpu-memory", limit]
        result = run("inspect", *arguments, "--json")
        assert result.returncode == 0, result.stderr
        plans[limit] = json.loads(result.stdout)["memory_accelerated"]
    assert plans["1GiB"]["device_measures"] == []
    assert plans["1GiB"]["device_bytes"] > plans["250MiB"]["device_bytes"] > plans["110MiB"]["device_bytes"]
    measures = [len(plan["device_measures"]) for plan in plans.values()]
    assert 0 == measures[0] < measures[1] < measures[2]


def test_a_generation_needs_the_gpu_that_was_planned_for(without_gpu, tmp_path):
    result = generate("--device", "cuda", "--max-gpu-memory", "1GiB", "--output", tmp_path / "p.png")
    expect_error(result, 1, "GPU 0")
    assert list(tmp_path.iterdir()) == []
