"""No command writes a file twice or over what it reads: refused before the work, whatever name or link leads there."""

import os
import subprocess

import pytest
from conftest import MODEL, PROGRAM, PROMPT, SMALL, expect_error, generate, run

FILM = ["--model", MODEL.parent / "demo-video", "--prompt", PROMPT, "--frames", "5"]
WEIGHTS = "vae/diffusion_pytorch_model.safetensors"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expect_refusal(result, *fragments):
    """Status 2, both options and the file named, before any step."""
    expect_error(result, 2, *fragments)
    assert "denoise" not in result.stderr and "encode prompt" not in result.stderr


@pytest.mark.parametrize("arguments, fragments", [
    (["--output", "a.png", "--report", "a.png"], ["--report: 'a.png'", "--output"]),
    (["--output", "a.png", "--save-latents", "./x/../a.png"], ["--save-latents: './x/../a.png'", "--output"]),
    (["--save-latents", "tamias.png"], ["--save-latents: 'tamias.png'", "--output"]),  # the default
    (["--report", "z.json", "--save-latents", "z.json"], ["--report: 'z.json'", "--save-latents"]),
    (["--num-images", "2", "--output", "a.png", "--save-latents", "a-1.png"], ["'a-1.png'", "--output"]),
    (["--output", "link.png", "--report", "x/new.png"], ["--report: 'x/new.png'", "--output"]),
    (["--output", "x/a.png", "--report", "linked/a.png"], ["--report: 'linked/a.png'", "--output"]),
    (["--output", "old.png", "--report", "same.json"], ["--report: 'same.json'", "--output"]),
    (["--sparsity", "my.yml", "--report", "my.yml"], ["--report: 'my.yml'", "--sparsity"]),
])  # fmt: skip
def test_generate(arguments, fragments, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "linked").symlink_to("x")
    (tmp_path / "link.png").symlink_to("x/new.png")  # leads to nothing yet
    (tmp_path / "old.png").write_text("old")
    os.link(tmp_path / "old.png", tmp_path / "same.json")
    (tmp_path / "my.yml").write_text("attn: {top_keys: 0.2}\n")
    before = contents(tmp_path)
    expect_refusal(generate(*arguments, cwd=tmp_path), *fragments)
    assert contents(tmp_path) == before


def test_two_names_are_two_files(tmp_path):
    result = generate("--steps", 1, "--num-images", 2, "--output", "a.png", "--save-latents", "a.png", "--report", "r.json",
                      cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(map(str, contents(tmp_path))) == ["a-1.png", "a-2.png", "a.png", "r.json"]


def test_devices_take_several(tmp_path):
    result = generate("--steps", 1, "--output", "/dev/null", "--report", "/dev/null", "--save-latents", "/dev/null")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("option", ["--output", "--report"])
def test_standard_output_may_be_one_of_the_files(option, tmp_path):
    with open(tmp_path / "r.json", "w") as output:
        names = {"--output": tmp_path / "p.png", "--report": tmp_path / "q.json", option: tmp_path / "r.json"}
        (tmp_path / "link.png").symlink_to("r.json")
        if option == "--output":
            names[option] = tmp_path / "link.png"
        arguments = [text for pair in names.items() for text in map(str, pair)]
        result = subprocess.run([PROGRAM, "generate", "--model", MODEL, "--prompt", PROMPT, *SMALL, "--json", *arguments],
                                stdout=output, stderr=subprocess.PIPE, text=True, timeout=60)
    expect_refusal(result, "--json", option)


@pytest.mark.parametrize("option, name", [
    ("--report", "model_index.json"), ("--save-latents", WEIGHTS), ("--save-latents", "vae/new.safetensors"),
    ("--output", "p.png"),
])  # fmt: skip
def test_nothing_is_written_into_the_model(option, name, model_copy, tmp_path):
    before = contents(model_copy)
    (tmp_path / "linked").symlink_to("model")
    names = {"--output": tmp_path / "p.png", option: tmp_path / "linked" / name}
    arguments = [text for pair in names.items() for text in map(str, pair)]
    result = run("generate", "--model", model_copy, "--prompt", PROMPT, *SMALL, *arguments)
    expect_refusal(result, f"{option}: ", name, "--model")
    assert contents(model_copy) == before


def test_what_the_model_links_to_is_read(model_copy, tmp_path):
    """As in a download cache."""
    blob = tmp_path / "blob"
    (model_copy / WEIGHTS).rename(blob)
    (model_copy / WEIGHTS).symlink_to(blob)
    before = blob.read_bytes()
    result = run("generate", "--model", model_copy, "--prompt", PROMPT, *SMALL, "--output", tmp_path / "p.png",
                 "--save-latents", blob)
    expect_refusal(result, "--save-latents: ", "blob", "--model")
    assert blob.read_bytes() == before


@pytest.mark.parametrize("arguments, fragments", [
    (["--output", "f.mp4", "--report", "f.mp4"], ["--report: 'f.mp4'", "--output"]),
    (["--output", "f.mp4", "--frames-dir", ".", "--report", "frame-0005.png"], ["--report: 'frame-0005.png'", "--frames-dir"]),
    (["--output", "f.mp4", "--num-images", "2", "--frames-dir", "d", "--save-latents", "d/film-2/frame-0001.png"],
     ["--save-latents: ", "d/film-2/frame-0001.png", "--frames-dir"]),
])  # fmt: skip
def test_films_and_frames(arguments, fragments, tmp_path):
    expect_refusal(run("generate", *FILM, *arguments, cwd=tmp_path), *fragments)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    path = tmp_path_factory.mktemp("latents") / "l.safetensors"
    result = generate("--steps", 1, "--save-latents", path, "--output", path.with_name("p.png"))
    assert result.returncode == 0, result.stderr
    return path.read_bytes()


@pytest.mark.parametrize("arguments, fragments", [
    (["--output", "d.png", "--report", "d.png"], ["--report: 'd.png'", "--output"]),
    (["--output", "d.png", "--report", "l.safetensors"], ["--report: 'l.safetensors'", "--latents"]),
    (["--output", "link.png"], ["--output: 'link.png'", "--latents"]),
])  # fmt: skip
def test_decode(arguments, fragments, latents, tmp_path):
    (tmp_path / "l.safetensors").write_bytes(latents)
    (tmp_path / "link.png").symlink_to("l.safetensors")
    before = contents(tmp_path)
    result = run("decode", "--model", MODEL, "--latents", "l.safetensors", *arguments, cwd=tmp_path)
    expect_refusal(result, *fragments)
    assert contents(tmp_path) == before


def test_tune(tmp_path):
    (tmp_path / "prompts").write_text(PROMPT + "\n")
    result = run("tune", "--model", MODEL, *SMALL, "--prompt-file", "prompts", "--output", "prompts", cwd=tmp_path)
    expect_refusal(result, "--output: 'prompts'", "--prompt-file")
    assert (tmp_path / "prompts").read_text() == PROMPT + "\n"


def test_compare(model_copy, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "report.yml").write_text("attn: {top_keys: 0.2}\n")
    (tmp_path / "out/report.json").symlink_to("../report.yml")
    arguments = ["compare", "--model", model_copy, "--prompt", PROMPT, *SMALL, "--sparsity", "report.yml", "--output"]
    expect_refusal(run(*arguments, "out", cwd=tmp_path), "--output: 'out/report.json'", "--sparsity")
    expect_refusal(run(*arguments, model_copy / "new", cwd=tmp_path), "--output: ", "model/new/", "--model")
    assert not (model_copy / "new").exists()


@pytest.mark.parametrize("arguments, fragments", [
    (["--output-dir", "model/results"], ["--output-dir: 'model/results'", "--model"]),
    (["--jobs", "model/model_index.json"], ["--jobs: 'model/model_index.json'", "--model"]),
    (["--api-key-file", "keys", "--jobs", "keys"], ["--jobs: 'keys'", "--api-key-file"]),
])  # fmt: skip
def test_serve(arguments, fragments, model_copy, tmp_path):
    (tmp_path / "keys").write_text("a-key-of-sixteen-characters\n")
    before = contents(tmp_path)
    result = run("serve", "--model", "model", "--listen", "127.0.0.1:0", *arguments, cwd=tmp_path, timeout=30)
    expect_error(result, 2, *fragments)
    assert contents(tmp_path) == before
