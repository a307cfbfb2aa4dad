"""Numbers on the command line are decimal, whole texts and in range; nothing else is taken for one."""

import json

import pytest
from conftest import MODEL, PROMPT, expect_error, generate, run

WHOLE = ["--width", "--height", "--frames", "--steps", "--max-sequence-length", "--num-images", "--seed", "--threads",
         "--quality"]
REAL = ["--true-cfg-scale", "--true-cfg-scale-2", "--guidance-scale", "--fps"]
NO_NUMBERS = [" ", "+5", " 5", "5 ", "0x10", "12x", "nan", "inf", "-inf", "1,5", "five", "1_000", "0b11", "5\n"]
TOO_LARGE = ["99999999999999999999999", "18446744073709551616"]


def assign(option, value):
    return [f"{option}={value}"]


@pytest.mark.parametrize("option", WHOLE)
def test_whole_numbers(option, tmp_path):
    for value in [*NO_NUMBERS, *TOO_LARGE, "1e3", "1.0", ".5", "-"]:
        result = generate(*assign(option, value), "--output", tmp_path / "p.png")
        expect_error(result, 2, f"{option}: expected a whole number", value.strip())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", REAL)
def test_real_numbers(option, tmp_path):
    for value in [*NO_NUMBERS, "0x1p3", "1e999", "1e", "-", "1.5f"]:
        result = generate(*assign(option, value), "--output", tmp_path / "p.png")
        expect_error(result, 2, f"{option}: expected a number", value.strip())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command, option", [
    (["bench", "attention"], "--tokens"),
    (["bench", "attention", "--tokens=8"], "--heads"),
    (["bench", "attention", "--tokens=8"], "--head-dim"),
    (["bench", "mlp", "--tokens=8"], "--model-dim"),
    (["bench", "mlp", "--tokens=8"], "--mlp-dim"),
    (["bench", "mlp"], "--repeats"),
    (["bench", "model"], "--threads"),
    (["bench", "mochi-480p"], "--frames"),
    (["bench", "mochi-480p"], "--heads"),
    (["bench", "attention"], "--sparsity"),
    (["tune", "--model", MODEL, "--prompt", PROMPT], "--min-psnr"),
    (["inspect", "--model", MODEL], "--width"),
    (["compare", "--model", MODEL, "--prompt", PROMPT], "--seed"),
])  # fmt: skip
def test_other_commands(command, option):
    for value in NO_NUMBERS:
        expect_error(run(*command, *assign(option, value)), 2, f"{option}: expected a")


@pytest.mark.parametrize("option", [*WHOLE, *REAL, "--max-memory"])
def test_no_value(option, tmp_path):
    for value in ([option, ""], [option], [f"{option}="]):
        expect_error(generate("--output", tmp_path / "p.png", *value), 2, option)
    assert not list(tmp_path.iterdir())


def test_a_value_that_is_its_own_argument(tmp_path):
    for value in ["", "-1", "0x10", "5 "]:
        result = generate("--seed", value, "--output", tmp_path / "p.png")
        assert result.returncode == 2 and "--seed" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text, seed", [
    ("010", 10), ("0010", 10), ("08", 8), ("0", 0), ("18446744073709551615", 2**64 - 1),
])  # fmt: skip
def test_seeds_are_decimal(text, seed, tmp_path):
    result = generate("--seed", text, "--steps", "1", "--json", "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["settings"]["seed"] == seed


def inspected(*arguments):
    result = run("inspect", "--model", MODEL, "--json", *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_sizes_are_decimal():
    assert inspected("--width", "0128", "--height", "64")["settings"]["width"] == 128


@pytest.mark.parametrize("text", ["1GiB", "1gib", "1 GiB", "1G", "1GB", "1024MiB", "1073741824", "0.5GiB"])
def test_bytes(text):
    large = inspected("--width", "2048", "--height", "2048", "--max-memory", text)
    assert large["memory_accelerated"]["spill_bytes"] > 0


@pytest.mark.parametrize("text", ["-1", "+5", " 5", "5 ", "1e3", "0x10", "8XiB", "GiB", "0.5", "1.2.3", "nan",
                                  "99999999999999999999999"])
def test_bad_bytes(text, tmp_path):
    result = generate(f"--max-memory={text}", "--output", tmp_path / "p.png")
    expect_error(result, 2, "--max-memory: expected bytes, as in 8GiB", text.strip())


@pytest.mark.parametrize("setting, fragment", [
    ("attn.top_keys=0x1p-2", "attn.top_keys"), ("attn.top_keys=nan", "attn.top_keys"),
    ("attn.top_keys=0,5", "attn.top_keys"), ("attn.top_keys=", "attn.top_keys"),
    ("attn.first_n_dense_layers=0x1", "attn.first_n_dense_layers"),
    ("attn.first_n_dense_layers=1e0", "attn.first_n_dense_layers"),
    ("attn.first_n_dense_layers=99999999999999999999", "attn.first_n_dense_layers"),
    ("attn.full_step_schedule=[0, 1x]", "attn.full_step_schedule"),
])  # fmt: skip
def test_settings(setting, fragment, tmp_path):
    expect_error(generate("--set", setting, "--output", tmp_path / "p.png"), 2, fragment)


def test_leading_zeros_in_settings_and_profiles_are_decimal(tmp_path):
    assert "first_n_dense_layers: 10" in inspected("--set", "attn.first_n_dense_layers=010")["sparsity"]
    profile = tmp_path / "p.yml"
    profile.write_text("attn: {first_n_dense_layers: 010}\n")
    assert "first_n_dense_layers: 10" in inspected("--sparsity", profile)["sparsity"]


def test_devices(tmp_path):
    for device in ("cuda:", "cuda:+1", "cuda:0x1", "cuda:-1", "cuda: 1", "cuda:1 "):
        expect_error(generate("--device", device, "--output", tmp_path / "p.png"), 2, "device: expected cpu, cuda")


def test_a_locale_with_a_decimal_comma_changes_nothing(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert inspected("--true-cfg-scale", "1.5")["settings"]["true_cfg_scale"] == 1.5
