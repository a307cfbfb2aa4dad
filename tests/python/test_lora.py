"""LoRAs in the engine: the pictures of diffusers with the same file, whatever script wrote it."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")
diffusers = pytest.importorskip("diffusers")

import numpy as np
import tamias
import torch
from safetensors.torch import load_file, save_file
from test_diffusers_pipelines import DEMO, DEMO_VIDEO, PROMPT, quiet, relative_error

RANK = 4
FLUX_LAYERS = [
    "transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.add_v_proj", "transformer_blocks.0.ff.net.0.proj",
    "transformer_blocks.1.ff_context.net.2", "transformer_blocks.1.norm1.linear",
    "single_transformer_blocks.3.attn.to_k", "single_transformer_blocks.5.proj_mlp",
    "single_transformer_blocks.0.proj_out", "x_embedder",
]  # fmt: skip
CLIP_LAYERS = ["encoder.layers.1.self_attn.v_proj", "encoder.layers.0.mlp.fc1"]


def weights_of(folder: Path, component: str) -> dict[str, torch.Tensor]:
    (file,) = (folder / component).glob("*.safetensors")
    return load_file(file)


def factors(folder: Path, component: str, layers: list[str], seed=0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Of each layer down [RANK, K] and up [N, RANK], whose product is about a third of the layer's weight."""
    generator = torch.Generator().manual_seed(seed)
    weights = weights_of(folder, component)
    result = {}
    for layer in layers:
        weight = weights[layer + ".weight"].float()
        down = torch.randn(RANK, weight.shape[1], generator=generator)
        up = torch.randn(weight.shape[0], RANK, generator=generator)
        result[layer] = down, up * weight.norm() / (up @ down).norm() / 3
    return result


def diffusers_tensors(layers, prefix="transformer.") -> dict[str, torch.Tensor]:
    tensors = {}
    for name, (down, up) in layers.items():
        tensors |= {f"{prefix}{name}.lora_A.weight": down, f"{prefix}{name}.lora_B.weight": up}
    return tensors


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo with weights in fp32, to which sums need not be rounded."""
    folder = tmp_path_factory.mktemp("demo") / "demo-flux"
    shutil.copytree(DEMO, folder)
    for file in folder.glob("*/*.safetensors"):
        save_file({name: tensor.float() for name, tensor in load_file(file).items()}, file)
    return folder


@pytest.fixture(scope="module")
def pipeline(demo):
    pipeline = diffusers.FluxPipeline.from_pretrained(demo, local_files_only=True, dtype=torch.float32)
    return quiet(pipeline)


def of_diffusers(pipeline, *files: Path, scales=None) -> np.ndarray:
    names = [file.stem for file in files]
    for file, name in zip(files, names, strict=True):
        pipeline.load_lora_weights(file, adapter_name=name)
    if names:
        pipeline.set_adapters(names, scales or [1.0] * len(names))
    try:
        with torch.inference_mode():
            return pipeline(
                prompt=PROMPT, max_sequence_length=36, width=64, height=64, num_inference_steps=3,
                generator=torch.Generator("cpu").manual_seed(5), output_type="latent",
            ).images.numpy()[0]  # fmt: skip
    finally:
        pipeline.unload_lora_weights()


def of_engine(folder, *loras, **options) -> np.ndarray:
    options = {"width": 64, "height": 64, "steps": 3, "true_cfg_scale": 1.0} | options
    result = tamias.Pipeline(folder, loras=loras).generate(PROMPT, seed=5, sparsity="off", decode=False, **options)
    return result.latents[0]


@pytest.fixture(scope="module")
def plain(pipeline):
    return of_diffusers(pipeline)


@pytest.fixture
def check(demo, pipeline, plain):
    def run(file: Path, file_of_diffusers: Path | None = None) -> None:
        expected = of_diffusers(pipeline, file_of_diffusers or file)
        assert relative_error(of_engine(demo, file), expected) < 1e-4
        assert relative_error(plain, expected) > 1e-2

    return run


def test_without_a_lora_pictures_are_as_diffusers(demo, plain):
    assert relative_error(of_engine(demo), plain) < 1e-4


def test_a_lora_of_diffusers(check, tmp_path):
    layers = factors(DEMO, "transformer", FLUX_LAYERS)
    save_file(diffusers_tensors(layers), tmp_path / "a.safetensors")
    check(tmp_path / "a.safetensors")


def test_a_lora_of_a_text_encoder(check, tmp_path):
    layers = factors(DEMO, "text_encoder", CLIP_LAYERS)
    save_file(diffusers_tensors(layers, "text_encoder."), tmp_path / "a.safetensors")
    check(tmp_path / "a.safetensors")


def test_alpha_is_a_tensor(check, tmp_path):
    layers = factors(DEMO, "transformer", FLUX_LAYERS)
    tensors = diffusers_tensors(layers) | {f"transformer.{name}.alpha": torch.tensor(7.0) for name in layers}
    save_file(tensors, tmp_path / "a.safetensors")
    check(tmp_path / "a.safetensors")


def test_alpha_is_in_the_metadata(check, tmp_path):
    layers = factors(DEMO, "transformer", FLUX_LAYERS)
    metadata = {
        "r": RANK, "lora_alpha": 6, "target_modules": list(layers), "alpha_pattern": {"x_embedder": 2},
        "rank_pattern": {},
    }  # fmt: skip
    diffusers.FluxPipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=diffusers_tensors(layers, ""), weight_name="a.safetensors",
        transformer_lora_adapter_metadata=metadata,
    )  # fmt: skip
    check(tmp_path / "a.safetensors")


def test_a_lora_of_peft(check, pipeline, tmp_path):
    """Alpha is in adapter_config.json beside the file; diffusers loads such files by its own names only."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    transformer = type(pipeline.transformer).from_config(pipeline.transformer.config)
    transformer.load_state_dict(pipeline.transformer.state_dict())
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "proj_mlp"], init_lora_weights=False)
    model = peft.get_peft_model(transformer, config)
    model.save_pretrained(tmp_path / "peft")
    layers = load_file(tmp_path / "peft/adapter_model.safetensors")
    tensors = {}
    for name, tensor in layers.items():
        name = name.replace("base_model.model.", "transformer.")
        tensors[name] = tensor * 3 if "lora_B" in name else tensor
    save_file(tensors, tmp_path / "a.safetensors")
    check(tmp_path / "a.safetensors")
    check(tmp_path / "peft/adapter_model.safetensors", tmp_path / "a.safetensors")


def test_loras_add_up_by_their_scales(demo, pipeline, tmp_path):
    for seed, name in enumerate(["a", "b"]):
        layers = factors(DEMO, "transformer", FLUX_LAYERS[: 5 + seed], seed)
        save_file(diffusers_tensors(layers), tmp_path / f"{name}.safetensors")
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    found = of_engine(demo, tamias.Lora(files[0], 0.4), tamias.Lora(files[1], -0.7))
    assert relative_error(found, of_diffusers(pipeline, *files, scales=[0.4, -0.7])) < 1e-4


def test_a_lora_of_kohyas_scripts(check, tmp_path):
    """Query, key and value are one layer of the authors' model, with one pair of factors."""
    width = weights_of(DEMO, "transformer")["x_embedder.weight"].shape[0]
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for name, rows, columns in [
        ("lora_unet_double_blocks_0_img_attn_qkv", 3 * width, width),
        ("lora_unet_double_blocks_1_txt_attn_proj", width, width),
        ("lora_unet_double_blocks_1_img_mlp_2", width, 4 * width),
        ("lora_unet_single_blocks_2_linear2", width, 5 * width),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc2", 128, 512),
    ]:
        tensors[f"{name}.lora_down.weight"] = torch.randn(RANK, columns, generator=generator)
        tensors[f"{name}.lora_up.weight"] = 0.03 * torch.randn(rows, RANK, generator=generator)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "a.safetensors")
    check(tmp_path / "a.safetensors")


def merged(folder: Path, layers, to: Path) -> Path:
    """A copy of the model with the factors' products in its transformer."""
    shutil.copytree(folder, to)
    (file,) = (to / "transformer").glob("*.safetensors")
    weights = load_file(file)
    for name, (down, up) in layers.items():
        weight = weights[name + ".weight"]
        weights[name + ".weight"] = (weight.float() + up @ down).to(weight.dtype)
    save_file(weights, file)
    return to


# The transformer's block is that of the authors' model: double_blocks.1.txt_attn_qkv of HunyuanVideo.
def test_a_film_s_lora_is_as_merged_weights(tmp_path):
    options = {"num_frames": 5, "steps": 2, "width": 64, "height": 64}
    names = [f"transformer_blocks.1.attn.add_{part}_proj" for part in "qkv"]
    layers = factors(DEMO_VIDEO, "transformer", names)
    down = layers[names[0]][0]
    layers = {name: (down, up) for name, (_, up) in layers.items()}
    save_file(
        {
            "diffusion_model.double_blocks.1.txt_attn_qkv.lora_A.weight": down,
            "diffusion_model.double_blocks.1.txt_attn_qkv.lora_B.weight": torch.cat([up for _, up in layers.values()]),
        },
        tmp_path / "a.safetensors",
    )
    folder = merged(DEMO_VIDEO, layers, tmp_path / "merged")
    found = of_engine(DEMO_VIDEO, tmp_path / "a.safetensors", **options)
    plain, expected = of_engine(DEMO_VIDEO, **options), of_engine(folder, **options)
    assert relative_error(found, expected) < 1e-3 < relative_error(plain, expected)


def test_settings_name_the_loras(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(diffusers_tensors(factors(DEMO, "transformer", FLUX_LAYERS[:1])), file)
    pipeline = tamias.Pipeline(DEMO, loras=[tamias.Lora(file, 0.5), str(file)])
    report = pipeline.generate(PROMPT, width=64, height=64, steps=1, decode=False).report
    assert report["settings"]["loras"] == [
        {"file": "a.safetensors", "scale": 0.5},
        {"file": "a.safetensors", "scale": 1.0},
    ]


def test_errors_name_file_and_tensor(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(diffusers_tensors({"none": (torch.ones(2, 3), torch.ones(3, 2))}), file)
    with pytest.raises(tamias.InvalidFileError, match=r"a\.safetensors: tensor 'transformer\.none\.lora_B\.weight'"):
        tamias.Pipeline(DEMO, loras=[file])
    with pytest.raises(tamias.InvalidArgumentError, match="scale"):
        tamias.Pipeline(DEMO, loras=[tamias.Lora(file, float("nan"))])
    with pytest.raises(tamias.InvalidArgumentError, match="no transformer_2"):
        tamias.Pipeline(DEMO, loras=[tamias.Lora(file, transformer=1)])
    with pytest.raises(tamias.InvalidArgumentError, match="expected 0 or 1, found 2"):
        tamias.Pipeline(DEMO, loras=[tamias.Lora(file, transformer=2)])
    for wrong in (str(file), file, {str(file): 0.5}, [(file, 0.5)], 3, [tamias.Lora(file, "0.5")]):
        with pytest.raises(TypeError, match="loras: "):
            tamias.Pipeline(DEMO, loras=wrong)
    with pytest.raises(tamias.NotFoundError, match="none"):
        tamias.Pipeline(DEMO, loras=["none.safetensors"])
