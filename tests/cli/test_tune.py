"""tamias tune: finds settings that keep the floor and writes them as a profile that does."""

import json
import os
import re
import signal
import subprocess

import pytest
from conftest import MODEL, PROGRAM, PROMPT, expect_error, read_json, run

SMALL = ["--model", MODEL, "--prompt", PROMPT, "--width", "96", "--height", "96", "--steps", "12"]
FLOOR = 25


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    profile = tmp_path_factory.mktemp("tune") / "mine.yml"
    result = run("tune", *SMALL, "--min-psnr", FLOOR, "--output", profile, "--json", "--quiet")
    assert result.returncode == 0, result.stderr
    return profile, json.loads(result.stdout)


def test_best_is_the_fastest_trial_that_keeps_the_floor(tuned):
    _, report = tuned
    trials, best = report["trials"], report["best"]
    assert 3 <= len(trials) <= 10
    assert len({(trial["name"], trial["psnr"]) for trial in trials}) == len(trials)
    assert all(trial["is_alike"] == (trial["psnr"] >= FLOOR) for trial in trials)
    assert best["psnr"] >= FLOOR
    assert best["seconds"] == min(t["seconds"] for t in trials if t["is_alike"])
    assert {t["is_alike"] for t in trials} == {True, False}  # the walk crossed the floor


def test_fewer_steps_take_their_share_of_the_time(tuned):
    _, report = tuned
    steps = round(12 * min(1, report["best"]["seconds"] / report["seconds_dense"]))
    assert report["fewer_steps"]["name"] == f"{max(1, steps)} plain steps"


def test_profile_gives_the_measured_likeness_again(tuned, tmp_path):
    profile, report = tuned
    result = run("compare", *SMALL, "--sparsity", profile, "--output", tmp_path, "--quiet")
    assert result.returncode == 0, result.stderr
    assert read_json(tmp_path / "report.json")["psnr"] == pytest.approx(report["best"]["psnr"])


def test_fixed_keys_stay_and_leave_fewer_settings(tmp_path):
    profile = tmp_path / "fixed.yml"
    result = run("tune", *SMALL, "--min-psnr", "10", "--output", profile, "--quiet", "--json",
                 "--set", "attn.top_keys=0.5", "--set", "step_caching.is_enabled=false")
    assert result.returncode == 0, result.stderr
    names = [trial["name"] for trial in json.loads(result.stdout)["trials"]]
    assert names[:4] == [f"columns 50 % additive, neurons {n} %" for n in (50, 40, 30, 20)]
    assert len(names) == 5 and "lse" in names[4]
    text = profile.read_text()
    assert "top_keys: 0.5" in text
    assert "step_caching:\n  is_enabled: false" in text


def test_settings_that_equal_dense_are_none(tmp_path):
    off = [f"--set={part}.is_enabled=false" for part in ("attn", "mlp", "step_caching")]
    result = run("tune", *SMALL, "--min-psnr", "10", "--output", tmp_path / "x.yml", "--quiet", *off)
    expect_error(result, 2, "no setting")


def test_floor_out_of_reach_writes_nothing(tmp_path):
    profile = tmp_path / "none.yml"
    result = run("tune", *SMALL, "--min-psnr", "98", "--output", profile, "--quiet")
    expect_error(result, 2, "--min-psnr: ", "98 dB")
    assert not profile.exists()
    reached = float(re.search(r"reached (\d+\.\d) dB", result.stderr)[1])
    assert 20 < reached < 98


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_interrupted_run_writes_the_best_so_far(form, tmp_path):
    profile = tmp_path / "best.yml"
    process = subprocess.Popen([PROGRAM, "tune", *map(str, SMALL), "--min-psnr", "10", "--output", profile, *form],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    runs = []  # dense, the first setting, the second: then one is measured
    while len(runs) < 3:
        run_name = re.match(r"(.*) denoise ", process.stderr.readline())
        assert process.poll() is None
        if run_name and run_name[1] not in runs:
            runs.append(run_name[1])
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "tamias: error: interrupted" in errors
    assert f"the best so far is in {profile}: {runs[1]}, " in errors
    assert runs[1] in profile.read_text()
    if form:
        report = json.loads(output)
        assert report["error"] == "interrupted" and report["best"]["name"] == runs[1]
    result = run("compare", *SMALL, "--sparsity", profile, "--output", tmp_path / "c", "--quiet")
    assert result.returncode == 0, result.stderr
    assert read_json(tmp_path / "c/report.json")["psnr"] > 10


def test_an_interrupted_run_that_has_measured_nothing_writes_nothing(tmp_path):
    process = subprocess.Popen([PROGRAM, "tune", *map(str, SMALL), "--output", tmp_path / "best.yml"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not process.stderr.readline().startswith("dense denoise"):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "interrupted" in errors and "best" not in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "status", "fragment"), [
    (["--sparsity", "off"], 2, "sparsity"),
    (["--min-psnr", "-3"], 2, "--min-psnr: expected a number from 0 to 99"),
    (["--output", "/no/such/folder/x.yml"], 1, "/no/such/folder/x.yml"),
])
def test_bad_arguments(arguments, status, fragment):
    expect_error(run("tune", *SMALL, *arguments), status, fragment)


def test_several_prompts_are_judged_by_the_worst(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(PROMPT + "\n\na large yellow ring at the center on a navy background\r\n")
    profile = tmp_path / "two.yml"
    small = [*SMALL[:2], *SMALL[4:], "--seed", "3", "--quiet", "--json"]
    result = run("tune", *small, "--prompt-file", prompts, "--min-psnr", "20", "--output", profile)
    assert result.returncode == 0, result.stderr
    best = json.loads(result.stdout)["best"]
    assert best["psnr"] < best["psnr_mean"]
    assert "over 2 prompts" in profile.read_text()
    psnrs = []
    for seed, prompt in ((3, PROMPT), (4, "a large yellow ring at the center on a navy background")):
        folder = tmp_path / str(seed)
        compared = run("compare", *SMALL[:2], *SMALL[4:], "--prompt", prompt, "--seed", seed,
                       "--sparsity", profile, "--output", folder, "--quiet")
        assert compared.returncode == 0, compared.stderr
        psnrs.append(read_json(folder / "report.json")["psnr"])
    assert best["psnr"] == pytest.approx(min(psnrs))
    assert best["psnr_mean"] == pytest.approx(sum(psnrs) / 2)


@pytest.mark.parametrize("text", [None, "", "\n\r\n", "a" * (1 << 21)])
def test_bad_prompt_files(tmp_path, text):
    prompts = tmp_path / "prompts.txt"
    if text is not None:
        prompts.write_text(text)
    result = run("tune", *SMALL[:2], *SMALL[4:], "--prompt-file", prompts, "--output", tmp_path / "x.yml")
    expect_error(result, 2, "prompts.txt")


def test_prompt_and_prompt_file_exclude_one_another(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(PROMPT + "\n")
    expect_error(run("tune", *SMALL, "--prompt-file", prompts), 2, "--prompt-file")
    expect_error(run("tune", *SMALL[:2], *SMALL[4:]), 2, "--prompt")
