"""What the program says of itself and of commands and options that it does not have; and that every option of
`inspect` and `bench`, which run no generation, has an effect."""

import json
import re

import pytest
from conftest import MODEL, PROMPT, ROOT, SMALL, expect_error, run

COMMANDS = ["generate", "compare", "tune", "decode", "inspect", "bench"]
BENCHES = ["attention", "mlp", "model", "all", "hunyuan-720p", "wan-720p", "mochi-480p"]


def test_the_program_alone_shows_how_to_use_it():
    for arguments in ([], ["bench"]):
        result = run(*arguments)
        assert result.returncode == 2 and result.stdout == ""
        assert "Usage:" in result.stderr
    for command in COMMANDS:
        assert re.search(rf"^ +{command} ", run().stderr, re.MULTILINE)


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["bench", name] for name in BENCHES])
def test_help_has_examples(command):
    for flag in ("--help", "-h"):
        result = run(*command, flag)
        assert result.returncode == 0 and result.stderr == ""
        assert "Examples:" in result.stdout
        assert f"tamias {command[0]} " in result.stdout.split("Examples:")[1]


def options_of(*command):
    return {name for name in re.findall(r"^ +(?:-\w,)?(--[a-z0-9-]+)", run(*command, "--help").stdout, re.MULTILINE)
            if name != "--help"}


@pytest.mark.parametrize("arguments, fragments", [
    (["generat"], ["'generat': unknown command of `tamias`", "'generate'"]),
    (["help"], ["'help': unknown command"]),
    (["bench", "atention"], ["'atention': unknown command of `tamias bench`", "'attention'"]),
    (["generate", "--model", MODEL, "--prompt", PROMPT, "--widht", "64"], ["'--widht': unknown option", "'--width'"]),
    (["generate", "--model", MODEL, "--prompt", PROMPT, "--widht=64"], ["'--widht': unknown option", "'--width'"]),
    (["generate", "--model", MODEL, "--promt", PROMPT], ["'--promt': unknown option", "'--prompt'"]),
    (["inspect", "--modle", MODEL], ["'--modle'", "of `tamias inspect`", "'--model'"]),
    (["--verson"], ["'--verson': unknown option of `tamias`", "'--version'"]),
    (["generate", "--model", MODEL, "--prompt", PROMPT, "--xyzzy"], ["'--xyzzy': unknown option"]),
    (["generate", "--model", MODEL, "a", "red", "star"], ["'a': unexpected"]),
    (["generate", "--model", MODEL], ["--prompt is required", "tamias generate --help"]),
    (["tune", "--model", MODEL, "--prompt", PROMPT, "--fps", "8"], ["'--fps': unknown option of `tamias tune`"]),
    (["inspect", "--model", MODEL, "--prompt", PROMPT], ["'--prompt': unknown option"]),
    (["bench", "attention", "--heads", "2"], ["--heads", "--tokens"]),
    (["bench", "mlp", "--tokens", "8", "--shape", "demo-512"], ["--tokens", "--shape"]),
    (["bench", "mlp", "--mlp-dim", "64"], ["--mlp-dim", "--tokens"]),
    (["bench", "mlp", "--tokens", "0"], ["tokens 1 to"]),
    (["bench", "mochi-480p", "--frames", "0"], ["frames", "1 to"]),
    (["bench", "mlp", "--threads", "-1"], ["threads", "0 to 1024"]),
])  # fmt: skip
def test_mistakes_are_named(arguments, fragments):
    expect_error(run(*arguments), 2, *fragments)


@pytest.mark.parametrize("command, options", [
    (["generate"], ["--model", "--variant", "--image", "--sparsity", "--set", "--device", "--dtype", "--output",
                    "--frames-dir", "--save-latents", "--report", "--steps", "--max-memory"]),
    (["compare"], ["--model", "--output"]),
    (["decode"], ["--model", "--latents", "--output", "--report"]),
    (["tune"], ["--model", "--prompt-file", "--output"]),
    (["inspect"], ["--model", "--sparsity"]),
    (["bench", "attention"], ["--shape"]),
    (["bench", "all"], ["--model", "--profile"]),
    (["serve"], ["--model", "--listen", "--api-key-file", "--output-dir", "--jobs"]),
])  # fmt: skip
def test_a_value_that_is_empty_is_not_one_that_is_not_given(command, options, tmp_path):
    """As a shell's variable that is not set gives it."""
    for option in options:
        expect_error(run(*command, option, "", cwd=tmp_path, timeout=30), 2, f"{option}: expected a value", command[-1])
    assert not list(tmp_path.iterdir())


def test_a_text_may_be_empty(tmp_path):
    result = run("generate", "--model", MODEL, "--prompt", "", "--negative-prompt", "", *SMALL, "--steps", "1", "--output",
                 tmp_path / "p.png")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("arguments, message", [
    (["--frames", "5"], "--frames: this model makes pictures"),
    (["--set", "attn.top_keys=0.1", "--sparsity", "off"], "--set: 'attn.top_keys=0.1' has no effect"),
    (["--true-cfg-scale-2", "2"], "--true-cfg-scale-2: this model"),
    (["--max-sequence-length", "0"], "--max-sequence-length: expected"),
    (["--device", "gpu"], "--device: expected"),
    (["--width", "63"], "--width: expected"),
])  # fmt: skip
def test_errors_name_the_option_as_it_is_typed(arguments, message):
    for command in (["generate", "--prompt", PROMPT], ["inspect"]):
        expect_error(run(*command, "--model", MODEL, *arguments), 2, f"error: {message}")


def test_a_file_is_not_taken_for_an_option(tmp_path):
    """A file whose name is an option's field, too."""
    (tmp_path / "report").mkdir()
    result = run("generate", "--model", MODEL, "--prompt", PROMPT, *SMALL, "--report", "report", cwd=tmp_path)
    expect_error(result, 1, "error: report: cannot create: Is a directory")


# What each option of inspect changes in its report, beside a run of the same film or picture without it.
FILM = ROOT / "models/demo-video"
INSPECT = {
    "--width": (MODEL, ["--width", "128"]),
    "--height": (MODEL, ["--height", "128"]),
    "--frames": (FILM, ["--frames", "5"]),
    "--fps": (FILM, ["--fps", "3"]),
    "--steps": (MODEL, ["--steps", "7"]),
    "--true-cfg-scale": (MODEL, ["--true-cfg-scale", "3"]),
    "--guidance-scale": (MODEL, ["--guidance-scale", "2"]),
    "--max-sequence-length": (MODEL, ["--max-sequence-length", "20"]),
    "--num-images": (MODEL, ["--num-images", "3"]),
    "--sparsity": (MODEL, ["--sparsity", "flux-1-dev"]),
    "--set": (MODEL, ["--set", "attn.top_keys=0.5"]),
    "--state-dtype": (MODEL, ["--state-dtype", "bf16"]),
    "--dtype": (MODEL, ["--dtype", "bf16"]),
    "--weight-dtype": (MODEL, ["--weight-dtype", "fp8_e4m3"]),
    "--max-memory": (MODEL, ["--max-memory", "100MiB"]),
    "--threads": (MODEL, ["--threads", "7"]),
}


def test_every_option_of_inspect_is_listed_here():
    assert options_of("inspect") == set(INSPECT) | {
        "--model", "--json", "--device", "--max-gpu-memory",  # test_device.py
        "--variant",  # test_model_folders.py
        "--lora",  # test_lora_option.py
        "--lora-2", "--true-cfg-scale-2"}  # test_two_transformers.py


@pytest.mark.parametrize("model, arguments", INSPECT.values(), ids=INSPECT.keys())
def test_every_option_of_inspect_has_an_effect(model, arguments):
    reports = []
    for extra in ([], arguments):
        result = run("inspect", "--model", model, "--json", *extra)
        assert result.returncode == 0, result.stderr
        report = json.loads(result.stdout)
        reports.append(report)
    assert reports[0] != reports[1]


def test_inspect_shows_the_settings_in_force():
    text = run("inspect", "--model", MODEL, "--steps", "9", "--guidance-scale", "2").stdout
    assert re.search(r"^  steps: 9$", text, re.MULTILINE) and "  guidance_scale: 2" in text


def test_commands_offer_what_they_use():
    """tune writes no film, so it has no --fps; compare and generate have all that decides a result."""
    shared = options_of("generate") - {"--output", "--quality", "--frames-dir", "--save-latents", "--report"}
    assert options_of("compare") == shared | {"--output"}
    assert options_of("tune") == (shared - {"--fps"}) | {"--output", "--min-psnr", "--prompt-file"}


def bench(*arguments):
    result = run("bench", *arguments, "--repeats", "1", "--json")
    assert result.returncode == 0, result.stderr
    return [(one["name"], one["shape"]) for one in json.loads(result.stdout)]


@pytest.mark.parametrize("command, option, value", [
    ("attention", "--heads", 2), ("attention", "--head-dim", 64), ("attention", "--sparsity", 0.5),
    ("mlp", "--model-dim", 128), ("mlp", "--mlp-dim", 128), ("mlp", "--sparsity", 0.5),
])  # fmt: skip
def test_options_of_bench_have_an_effect(command, option, value):
    small = [command, "--tokens", 64]
    if command == "mlp" and option != "--model-dim":
        small += ["--model-dim", 64]
    assert bench(*small, option, value) != bench(*small)
