"""The node in ComfyUI itself, over small random models of its own classes, on the CPU. Runs where TAMIAS_COMFYUI
names a clone of ComfyUI, by a Python that has what ComfyUI needs."""

import os
import sys
from pathlib import Path

import pytest

COMFYUI = os.environ.get("TAMIAS_COMFYUI")
if not COMFYUI:
    pytest.skip("TAMIAS_COMFYUI names no clone of ComfyUI", allow_module_level=True)

ROOT = Path(__file__).parents[2]
sys.path[:0] = [
    os.environ.get("TAMIAS_PYTHON", str(ROOT / "build/release/python")),
    str(ROOT / "integrations"),
    COMFYUI,
]
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.argv = [sys.argv[0], "--cpu"]  # ComfyUI reads them when it is imported

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from comfyui import NODE_CLASS_MAPPINGS  # noqa: E402

TEXT = {"context_in_dim": 24, "vec_in_dim": 12, "qkv_bias": True, "guidance_embed": True}
JOINT = {"in_channels": 16, "out_channels": 16, "hidden_size": 64, "mlp_ratio": 4.0, "num_heads": 2, "depth": 2,
         "depth_single_blocks": 3, "axes_dim": [8, 12, 12]} | TEXT  # fmt: skip
CONFIGS = {
    "Flux": {"image_model": "flux", "patch_size": 2, "theta": 10000, "txt_ids_dims": []} | JOINT,
    "HunyuanVideo": {
        "image_model": "hunyuan_video", "patch_size": [1, 2, 2], "theta": 256, "byt5": False, "meanflow": False,
        "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
    } | JOINT,
    "WAN21_T2V": {
        "image_model": "wan2.1", "model_type": "t2v", "dim": 64, "ffn_dim": 128, "num_heads": 2, "num_layers": 3,
        "freq_dim": 64, "text_dim": 24, "in_dim": 16, "out_dim": 16, "patch_size": (1, 2, 2),
    },
}  # fmt: skip
SETTINGS = (
    "attn.mbm=32", "attn.counts_multiple_of=1", "attn.first_n_dense_layers=0", "attn.local_voxels=0",
    "attn.full_step_every=4", "attn.full_step_schedule=null",
)  # fmt: skip


@pytest.fixture(params=CONFIGS)
def patcher(request):
    torch.manual_seed(1)
    config = getattr(comfy.supported_models, request.param)(CONFIGS[request.param] | {"dtype": torch.float32})
    config.set_inference_dtype(torch.float32, torch.float32)
    model = config.get_model({}, "", device="cpu").eval()
    for name, parameter in model.diffusion_model.named_parameters():
        if parameter.dim() > 1:
            parameter.data.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
        else:
            parameter.data.copy_(
                0.02 * torch.randn_like(parameter) + ("norm" in name and not name.endswith("bias"))
            )
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def sample(patcher, guidance, steps=8, sampler="euler"):
    generator = torch.Generator().manual_seed(3)
    is_picture = type(patcher.model.diffusion_model).__name__ == "Flux"
    noise = torch.randn((1, 16, 25, 30) if is_picture else (1, 16, 3, 18, 20), generator=generator)

    def conditioning():
        pooled = torch.randn(1, 12, generator=generator)
        return [[torch.randn(1, 9, 24, generator=generator), {"pooled_output": pooled, "guidance": 3.5}]]

    return comfy.sample.sample(
        patcher, noise, steps, guidance, sampler, "simple", conditioning(), conditioning(), torch.zeros_like(noise),
        disable_pbar=True, seed=3,
    )  # fmt: skip


def accelerated(patcher, settings=(), **dials):
    dials = {"enabled": True, "profile": "auto", "attention": "on", "top_keys": -1.0, "step_caching": "off",
             "threshold": 0.1, "threads": 2} | dials  # fmt: skip
    return NODE_CLASS_MAPPINGS["TamiasAccelerate"]().accelerate(
        patcher, **dials, overrides="\n".join((*SETTINGS, *settings))
    )[0]


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_results(patcher, guidance):
    plain = sample(patcher, guidance)
    assert torch.equal(sample(accelerated(patcher, enabled=False), guidance), plain)
    assert error(sample(accelerated(patcher, attention="off"), guidance), plain) < 1e-5
    assert error(sample(accelerated(patcher, top_keys=1.0), guidance), plain) < 1e-5
    sparse = accelerated(patcher, top_keys=0.3)
    assert 1e-5 < error(sample(sparse, guidance), plain) < 0.2
    report = sparse.get_attachment("tamias").report
    assert report["steps"] == ["full", "full", "sparse", "sparse", "full", "sparse", "sparse", "sparse"]
    assert report["attention_sparsity"] > 0.3
    assert torch.equal(sample(patcher, guidance), plain)


@pytest.mark.parametrize("reuse", ["hidden", "prediction", "extrapolate"])
def test_skipped_steps(patcher, reuse):
    settings = (
        "step_caching.is_enabled=true",
        "step_caching.skip_step_schedule=[3,5,6]",
        f"step_caching.reuse={reuse}",
    )
    skipping = accelerated(patcher, settings, step_caching="profile")
    sample(skipping, 1.0)
    steps = skipping.get_attachment("tamias").report["steps"]
    assert [i for i, kind in enumerate(steps) if kind == "skip"] == [3, 5, 6]
    often = accelerated(patcher, step_caching="threshold", threshold=10.0)
    sample(often, 1.0)
    assert often.get_attachment("tamias").report["steps"].count("skip") >= 5


def test_heun_takes_two_steps_a_noise_level(patcher):
    sparse = accelerated(patcher, top_keys=0.3)
    assert error(sample(sparse, 1.0, sampler="heun"), sample(patcher, 1.0, sampler="heun")) < 0.2
    assert len(sparse.get_attachment("tamias").report["steps"]) == 15
