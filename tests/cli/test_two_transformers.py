"""Films of a model with one transformer for high noise and one for low, from the command line. The model is random:
Wan 2.2 in small, text- and image-to-video."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import MODEL, ROOT, expect_error, read_json, run
from safetensors.numpy import load_file, save_file

DATA = ROOT / "tests/data/pipeline"
PICTURE = DATA / "tiny-wan-image/picture.png"
PROMPT = "a small blue star moves to the left"
SIZE = ["--width", "48", "--height", "32", "--frames", "9", "--max-sequence-length", "40"]
# The first transformer makes steps 0 to 2, the second the others.
SMALL = [*SIZE, "--steps", "8"]
SPARSE = ["--set", "attn.first_n_dense_layers=0"]


def link(folder, name):
    """A folder of links, so that a part of it can be replaced."""
    folder.mkdir()
    sources = [*(DATA / name).iterdir(), *((DATA / "tiny-wan" / part) for part in ("text_encoder", "vae", "scheduler"))]
    for path in sources:
        (folder / path.name).symlink_to(path)
    (folder / "tokenizer").symlink_to(MODEL / "tokenizer_2")
    return folder


@pytest.fixture(params=["tiny-wan-2.2", "tiny-wan-2.2-image"])
def model(request, tmp_path):
    """The folder, and the options that generating with it needs."""
    image = ["--image", PICTURE] if request.param.endswith("image") else []
    return link(tmp_path / "model", request.param), image


def inspected(folder, *arguments):
    result = run("inspect", "--model", folder, *SMALL, "--json", *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_film(model, tmp_path):
    folder, image = model
    result = run("generate", "--model", folder, "--prompt", PROMPT, *SMALL, *SPARSE, *image, "--output",
                 tmp_path / "f.mp4", "--report", tmp_path / "r.json", "--set", "step_caching.skip_step_schedule=[3, 6]")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "f.mp4").stat().st_size > 0
    kinds = [step["kind"] for step in read_json(tmp_path / "r.json")["steps"]]
    # Step 3 is the second transformer's first, whatever the schedule says.
    assert kinds == ["full", "full", "sparse", "full", "full", "sparse", "skip", "sparse"]


def test_compare_and_tune(model, tmp_path):
    folder, image = model
    common = ["--model", folder, "--prompt", PROMPT, *SMALL, *SPARSE, *image]
    result = run("compare", *common, "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert read_json(tmp_path / "out/report.json")["psnr"] > 20
    result = run("tune", *common, "--min-psnr", "1", "--quiet", "--json", "--output", tmp_path / "t.yml")
    assert result.returncode == 0, result.stderr
    skipped = json.loads(re.search(r"skip_step_schedule: (\[.*?\])", (tmp_path / "t.yml").read_text())[1])
    assert skipped and 0 not in skipped and 3 not in skipped


def latents(folder, tmp_path, *arguments):
    output = tmp_path / "latents.safetensors"
    result = run("generate", "--model", folder, "--prompt", PROMPT, *SMALL, *arguments,
                 "--sparsity", "off", "--save-latents", output, "--output", tmp_path / "f.mp4")
    assert result.returncode == 0, result.stderr
    return load_file(output)["latents"]


def write_lora(path, weights, layer, prefix):
    """A LoRA of one layer, of rank 1."""
    rows, columns = load_file(weights)[f"{layer}.weight"].shape
    save_file({f"{prefix}.{layer}.lora_A.weight": np.ones((1, columns), np.float32),
               f"{prefix}.{layer}.lora_B.weight": np.full((rows, 1), 0.1, np.float32)}, path)
    return path


def test_each_transformer_has_loras_of_its_own(model, tmp_path):
    folder, image = model
    file = write_lora(tmp_path / "a.safetensors", folder / "transformer/diffusion_pytorch_model.safetensors",
                      "blocks.0.attn1.to_v", "transformer")
    for option, name in (("--lora", "transformer"), ("--lora-2", "transformer_2")):
        entries = inspected(folder, option, file)["memory_dense"]["entries"]
        changed = [entry["name"] for entry in entries if entry["name"].endswith("with LoRAs")]
        assert changed == [f"weights of {name}, with LoRAs"]
    plain = latents(folder, tmp_path, *image)
    first, second = (latents(folder, tmp_path, *image, option, file) for option in ("--lora", "--lora-2"))
    both = latents(folder, tmp_path, *image, "--lora", file, "--lora-2", file)
    films = [plain, first, second, both]
    assert [[np.array_equal(a, b) for b in films] for a in films] == np.eye(4, dtype=bool).tolist()


def test_text_encoders_take_the_loras_of_the_first(model, tmp_path):
    folder, image = model
    (weights,) = (folder / "text_encoder").glob("*.safetensors")
    file = write_lora(tmp_path / "a.safetensors", weights, "encoder.block.0.layer.0.SelfAttention.v", "text_encoder")
    plain = latents(folder, tmp_path, *image)
    assert np.array_equal(latents(folder, tmp_path, *image, "--lora-2", file), plain)
    changed = latents(folder, tmp_path, *image, "--lora", file)
    assert not np.array_equal(changed, plain)
    assert np.array_equal(latents(folder, tmp_path, *image, "--lora", file, "--lora-2", file), changed)


def test_the_scale_of_the_second_transformer_matters(model, tmp_path):
    folder, image = model
    films = []
    for scale in ([], ["--true-cfg-scale-2", "5"], ["--true-cfg-scale-2", "1"]):
        films.append(latents(folder, tmp_path, *image, *scale))
    assert np.array_equal(films[0], films[1]) and not np.array_equal(films[0], films[2])  # 5 is the default of both


def test_inspect_tells_of_both(model):
    folder, image = model
    info = inspected(folder, "--true-cfg-scale-2", "2.5")
    parts = {part["name"]: part["class"] for part in info["components"]}
    assert parts["transformer"] == parts["transformer_2"] == "WanTransformer3DModel"
    assert info["needs_image"] is bool(image) and info["default_profile"] == "wan-2.2"
    assert info["second_expert_step"] == 3
    assert info["settings"]["true_cfg_scale_2"] == 2.5 and info["defaults"]["true_cfg_scale_2"] == 5
    plan = {entry["name"]: entry["bytes"] for entry in info["memory_dense"]["entries"]}
    assert plan["denoising: weights of transformer_2 (mapped)"] == plan["denoising: weights of transformer (mapped)"] > 0
    assert "Second transformer: from step 3 on" in run("inspect", "--model", folder, *SMALL).stdout


def test_other_models_refuse_a_second_scale(tmp_path):
    result = run("generate", "--model", MODEL, "--prompt", PROMPT, "--true-cfg-scale-2", "2", "--output",
                 tmp_path / "p.png")
    expect_error(result, 2, "--true-cfg-scale-2: this model has one transformer")


def test_folders_that_are_not_whole_are_refused(model):
    folder, _ = model
    index = folder / "model_index.json"
    text = index.read_text()
    index.unlink()
    for old, new, field in (("0.", "-0.", "boundary_ratio"), ("false", "true", "expand_timesteps")):
        index.write_text(text.replace(old, new))
        expect_error(run("inspect", "--model", folder), 2, field)
    index.write_text(text)
    part = folder / "transformer_2"
    source = part.resolve()
    part.unlink()
    expect_error(run("inspect", "--model", folder), 2, "component 'transformer_2' is missing")
    shutil.copytree(source, part)
    config = part / "config.json"
    config.write_text(config.read_text().replace('"num_layers": 2', '"num_layers": 1'))
    expect_error(run("inspect", "--model", folder), 2, "transformer_2: tensor 'blocks.1...'", "'num_layers'")
    (weights,) = part.glob("*.safetensors")
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("blocks.1.")}, weights)
    expect_error(run("inspect", "--model", folder), 2, "transformer_2: field 'num_layers' is 1, but transformer gives 2")
    config.unlink()
    expect_error(run("inspect", "--model", folder), 2, "transformer_2", "config.json")
