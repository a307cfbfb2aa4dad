"""--weight-dtype: weights of 8 bits, and what is said of types that there are not."""

import json

from conftest import MODEL, expect_error, generate, run


def test_the_picture_is_another_and_the_report_names_the_type(tmp_path):
    reports, pictures = {}, {}
    for weights in ("auto", "fp8_e4m3"):
        path = tmp_path / f"{weights}.png"
        result = generate("--weight-dtype", weights, "--json", "--output", path)
        assert result.returncode == 0, result.stderr
        reports[weights], pictures[weights] = json.loads(result.stdout), path.read_bytes()
    assert {name: report["weight_dtype"] for name, report in reports.items()} == {n: n for n in reports}
    assert pictures["auto"] != pictures["fp8_e4m3"]


def test_less_of_a_gpus_memory_is_planned():
    plans = {}
    for weights in ("auto", "fp8_e4m3"):
        options = ["--device", "cuda", "--max-gpu-memory", "1GiB", "--weight-dtype", weights]
        result = run("inspect", "--model", MODEL, *options, "--json")
        assert result.returncode == 0, result.stderr
        (device,) = json.loads(result.stdout)["memory_accelerated"]["devices"]
        plans[weights] = {entry["name"]: entry["bytes"] for entry in device["entries"]}
    name = "weights of transformer"
    assert 0.5 < plans["fp8_e4m3"][name] / plans["auto"][name] < 0.55
    name = "weights prepared for sparse MLPs"
    assert plans["auto"][name] > 0 and name not in plans["fp8_e4m3"]


def test_other_types_are_refused(tmp_path):
    result = generate("--weight-dtype", "int8", "--output", tmp_path / "p.png")
    expect_error(result, 2, "--weight-dtype: expected auto or fp8_e4m3, found 'int8'")
    assert list(tmp_path.iterdir()) == []
