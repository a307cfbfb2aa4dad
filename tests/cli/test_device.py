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


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0,", "cuda:0,1"])
def test_unknown_devices_are_refused(tmp_path, device):
    result = generate(f"--device={device}", "--output", tmp_path / "p.png")
    expect_error(result, 2, "expected cpu, cuda or cuda:<number>")


def test_the_plan_has_a_place_for_a_gpu(tmp_path):
    result = run("inspect", "--model", MODEL, "--json")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)["memory_accelerated"]
    assert plan["device_bytes"] == 0 and plan["devices"] == []


def test_a_limit_of_a_gpu_that_does_not_run_is_said_to_do_nothing(without_gpu):
    arguments = ["--model", MODEL, "--max-gpu-memory", "1GiB"]
    said = "max_gpu_memory has no effect"
    assert said in run("inspect", *arguments).stderr
    assert said not in run("inspect", *arguments, "--device", "cuda").stderr


def test_plans_can_be_made_for_a_gpu_that_is_not_there(without_gpu):
    plans = {}
    for limit in ("1GiB", "250MiB", "110MiB"):
        arguments = ["--model", MODEL, "--device", "cuda", "--max-gpu-memory", limit]
        result = run("inspect", *arguments, "--json")
        assert result.returncode == 0, result.stderr
        plans[limit] = json.loads(result.stdout)["memory_accelerated"]
    assert plans["1GiB"]["device_measures"] == []
    assert plans["1GiB"]["devices"][0]["card_bytes"] == plans["1GiB"]["devices"][0]["free_bytes"] == 0
    assert plans["1GiB"]["device_bytes"] > plans["250MiB"]["device_bytes"] > plans["110MiB"]["device_bytes"]
    measures = [len(plan["device_measures"]) for plan in plans.values()]
    assert 0 == measures[0] < measures[1] < measures[2]


def test_lists_are_of_gpus_each_named_once(tmp_path):
    for device, message in (
        ("cuda:0,cuda:0", "expected each device once, found cuda:0 twice"),
        ("cuda:0,cpu", "expected cpu alone, or GPUs as in cuda:0,cuda:1"),
    ):
        expect_error(generate("--device", device, "--output", tmp_path / "p.png"), 2, message)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_gpus_that_cannot_share_the_calls_are_refused(without_gpu, tmp_path):
    limit = ("--max-gpu-memory", "1GiB")
    for device, scale, message in (
        ("cuda:1,cuda:0,cuda:2", "1", "expected a number of GPUs for each call of the transformer that divides its 4 heads "
         "(num_attention_heads), found 3"),
        ("cuda:0,cuda:1,cuda:2", "2", "expected one, or GPUs of an even number (a step with guidance calls the transformer "
         "twice), found 'cuda:0,cuda:1,cuda:2'"),
        ("cuda:0,cuda:1,cuda:2,cuda:3", "1", "expected at most 2 GPUs for each call of the transformer (256 image tokens in "
         "groups of 128), found 4"),
    ):  # fmt: skip
        size = ("--width", "128", "--height", "128")
        options = ("--true-cfg-scale", scale, "--device", device, *size, *limit)
        expect_error(generate(*options, "--output", tmp_path / "p.png"), 2, message)
        expect_error(run("inspect", "--model", MODEL, *options), 2, message)


def test_decoding_runs_on_one_gpu(without_gpu, tmp_path):
    latents = tmp_path / "latents.safetensors"
    result = generate("--save-latents", latents, "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    arguments = ["--model", MODEL, "--latents", latents, "--output", tmp_path / "q.png"]
    result = run("decode", *arguments, "--device", "cuda:0,cuda:1", "--max-gpu-memory", "1GiB")
    expect_error(result, 2, "expected one (decoding runs on one), found 'cuda:0,cuda:1', of which cuda:0 would be used")


def test_the_plan_says_what_lies_on_which_gpu(without_gpu):
    arguments = ["--model", MODEL, "--true-cfg-scale", "3", "--max-gpu-memory", "1GiB"]

    def plan(device: str) -> dict:
        result = run("inspect", *arguments, "--device", device, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["memory_accelerated"]

    one, two = plan("cuda"), plan("cuda:1,cuda:0")
    assert [memory["device"] for memory in two["devices"]] == ["cuda:1", "cuda:0"]
    first, second = ({entry["name"] for entry in memory["entries"]} for memory in two["devices"])
    assert {"weights of text_encoder", "weights of transformer", "weights of vae"} <= first
    assert "weights of transformer" in second
    assert not {"weights of text_encoder", "weights of vae"} & second
    assert two["device_bytes"] == two["devices"][0]["bytes"] > two["devices"][1]["bytes"]

    def state(plan: dict) -> list[int]:
        entries = [memory["entries"] for memory in plan["devices"]]
        return [sum(entry["bytes"] for entry in one if entry["name"].startswith("state")) for one in entries]

    assert state(two)[0] == state(two)[1]
    assert state(one)[0] <= sum(state(two)) <= 1.1 * state(one)[0]
    text = run("inspect", *arguments, "--device", "cuda:0,cuda:1").stdout
    assert "cuda:0: weights of vae" in text and "cuda:1: weights of transformer" in text


def test_gpus_that_share_a_call_have_half_of_its_state_each(without_gpu):
    arguments = ["--model", MODEL, "--true-cfg-scale", "1", "--max-gpu-memory", "1GiB"]

    def caches(device: str) -> list[int]:
        result = run("inspect", *arguments, "--device", device, "--json")
        assert result.returncode == 0, result.stderr
        plan = json.loads(result.stdout)["memory_accelerated"]
        name = "state: attention output cache"
        return [entry["bytes"] for memory in plan["devices"] for entry in memory["entries"] if entry["name"] == name]

    (whole,) = caches("cuda")
    assert caches("cuda:0,cuda:1") == [whole / 2, whole / 2]


def test_a_generation_needs_the_gpu_that_was_planned_for(without_gpu, tmp_path):
    result = generate("--device", "cuda", "--max-gpu-memory", "1GiB", "--output", tmp_path / "p.png")
    expect_error(result, 1, "GPU 0")
    assert list(tmp_path.iterdir()) == []
