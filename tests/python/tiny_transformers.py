"""Random transformers of diffusers in small, the inputs of a call of each, and a denoising loop over them.

Sizes are odd on purpose. Texts of a batch differ in length where the model takes a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch

# Threads of small models would wait for each other longer than they work.
torch.set_num_threads(1)

TEXT_TOKENS = 9  # with padding
LENGTHS = (5, 9, 2)  # without, of the items of a batch


@dataclass
class Tiny:
    """make(): the model; inputs(batch): of a call, without timestep; latents, time: the names of those
    two."""

    make: Callable[[], torch.nn.Module]
    inputs: Callable[[int], dict[str, Any]]
    latents: str = "hidden_states"
    time: str = "timestep"
    times: tuple[float, ...] = (900.0, 700.0, 500.0, 300.0, 200.0, 100.0)
    options: dict[str, Any] = field(default_factory=dict)

    def model(self) -> torch.nn.Module:
        torch.manual_seed(1)
        return randomised(self.make())


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter gets a value that matters: fresh models have zero biases and gates."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)
            else:
                parameter.copy_(0.1 * noise if name.endswith("bias") else 1 + 0.2 * noise)
    return model.eval()


def mask(batch: int) -> torch.Tensor:
    return torch.arange(TEXT_TOKENS) < torch.tensor(LENGTHS[:batch])[:, None]


def text(batch: int, width: int = 20) -> torch.Tensor:
    return torch.randn(batch, TEXT_TOKENS, width)


def flux_positions(height: int, width: int) -> torch.Tensor:
    positions = torch.zeros(height, width, 3)
    positions[..., 1] = torch.arange(height)[:, None]
    positions[..., 2] = torch.arange(width)
    return positions.reshape(-1, 3)


def make_flux() -> torch.nn.Module:
    return diffusers.FluxTransformer2DModel(
        in_channels=8, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=20, pooled_projection_dim=10, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip


def flux_inputs(batch: int) -> dict[str, Any]:
    return dict(
        hidden_states=torch.randn(batch, 9 * 10, 8), encoder_hidden_states=text(batch),
        pooled_projections=torch.randn(batch, 10), img_ids=flux_positions(9, 10),
        txt_ids=torch.zeros(TEXT_TOKENS, 3),
    )  # fmt: skip


def make_hunyuan_video() -> torch.nn.Module:
    return diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=3, attention_head_dim=8, num_layers=2,
        num_single_layers=2, num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=False,
        text_embed_dim=20, pooled_projection_dim=10, rope_axes_dim=(2, 2, 4),
    )  # fmt: skip


def hunyuan_video_inputs(batch: int) -> dict[str, Any]:
    return dict(
        hidden_states=torch.randn(batch, 4, 3, 10, 12), encoder_hidden_states=text(batch),
        encoder_attention_mask=mask(batch).long(), pooled_projections=torch.randn(batch, 10),
    )  # fmt: skip


def make_wan(**options: Any) -> torch.nn.Module:
    settings = dict(
        patch_size=(1, 2, 2), num_attention_heads=3, attention_head_dim=16, in_channels=4, out_channels=4,
        text_dim=20, freq_dim=32, ffn_dim=96, num_layers=3,
    )  # fmt: skip
    return diffusers.WanTransformer3DModel(**settings | options)


def wan_inputs(batch: int) -> dict[str, Any]:
    return dict(hidden_states=torch.randn(batch, 4, 3, 10, 12), encoder_hidden_states=text(batch))


def wan_image_inputs(batch: int) -> dict[str, Any]:
    # The model takes the last 512 tokens of picture and text for the text.
    return dict(
        hidden_states=torch.randn(batch, 9, 3, 10, 12), encoder_hidden_states=torch.randn(batch, 512, 20),
        encoder_hidden_states_image=torch.randn(batch, 5, 14),
    )  # fmt: skip


def make_mochi() -> torch.nn.Module:
    return diffusers.MochiTransformer3DModel(
        patch_size=2, num_attention_heads=3, attention_head_dim=16, num_layers=3, pooled_projection_dim=20,
        in_channels=3, text_embed_dim=24, time_embed_dim=18,
    )  # fmt: skip


def mochi_inputs(batch: int) -> dict[str, Any]:
    return dict(
        hidden_states=torch.randn(batch, 3, 3, 10, 12), encoder_hidden_states=text(batch, 24),
        encoder_attention_mask=mask(batch),
    )  # fmt: skip


def make_sd3() -> torch.nn.Module:
    return diffusers.SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, num_layers=3, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=20, caption_projection_dim=32, pooled_projection_dim=10,
        out_channels=4, pos_embed_max_size=32, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip


def sd3_inputs(batch: int) -> dict[str, Any]:
    return dict(
        hidden_states=torch.randn(batch, 4, 18, 20), encoder_hidden_states=text(batch),
        pooled_projections=torch.randn(batch, 10),
    )  # fmt: skip


def make_flux2() -> torch.nn.Module:
    return diffusers.Flux2Transformer2DModel(
        in_channels=8, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=20, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )  # fmt: skip


def flux2_inputs(batch: int) -> dict[str, Any]:
    def positions(ids: torch.Tensor) -> torch.Tensor:
        return torch.cat([ids, torch.zeros(len(ids), 1)], dim=1).expand(batch, -1, -1)

    return dict(
        hidden_states=torch.randn(batch, 9 * 10, 8), encoder_hidden_states=text(batch),
        img_ids=positions(flux_positions(9, 10)), txt_ids=positions(torch.zeros(TEXT_TOKENS, 3)),
    )  # fmt: skip


def make_cogvideox() -> torch.nn.Module:
    return diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=6,
        text_embed_dim=20, num_layers=3, sample_width=12, sample_height=10, sample_frames=9, patch_size=2,
        max_text_seq_length=TEXT_TOKENS,
    )  # fmt: skip


def cogvideox_inputs(batch: int) -> dict[str, Any]:
    return dict(hidden_states=torch.randn(batch, 3, 4, 10, 12), encoder_hidden_states=text(batch))


def make_qwen_image() -> torch.nn.Module:
    return diffusers.QwenImageTransformer2DModel(
        patch_size=1, in_channels=8, out_channels=8, num_layers=3, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=20, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip


def qwen_image_inputs(batch: int) -> dict[str, Any]:
    return dict(
        hidden_states=torch.randn(batch, 9 * 10, 8), encoder_hidden_states=text(batch),
        encoder_hidden_states_mask=mask(batch), img_shapes=[[(1, 9, 10)]] * batch,
    )  # fmt: skip


def make_z_image() -> torch.nn.Module:
    return diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=48, n_layers=3, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=20,
        axes_dims=[8, 8, 8], axes_lens=[256, 64, 64],
    )  # fmt: skip


def z_image_inputs(batch: int) -> dict[str, Any]:
    return dict(
        x=[torch.randn(4, 1, 18, 20) for _ in range(batch)],
        cap_feats=[torch.randn(n, 20) for n in (9, 40, 70)[:batch]],
    )


def make_ltx_video() -> torch.nn.Module:
    return diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
        num_layers=3, caption_channels=20,
    )  # fmt: skip


def ltx_video_inputs(batch: int) -> dict[str, Any]:
    return dict(
        hidden_states=torch.randn(batch, 3 * 5 * 6, 8), encoder_hidden_states=text(batch),
        encoder_attention_mask=mask(batch), num_frames=3, height=5, width=6,
    )  # fmt: skip


RISING = (100.0, 300.0, 500.0, 700.0, 800.0, 900.0)
BLOCK_FAMILIES = {
    "flux": Tiny(make_flux, flux_inputs),
    "hunyuan-video": Tiny(make_hunyuan_video, hunyuan_video_inputs),
    "wan": Tiny(make_wan, wan_inputs),
    "wan-image": Tiny(lambda: make_wan(in_channels=9, image_dim=14, added_kv_proj_dim=48), wan_image_inputs),
    "mochi": Tiny(make_mochi, mochi_inputs, times=RISING),
}
ATTENTION_FAMILIES = {
    "sd3": Tiny(make_sd3, sd3_inputs),
    "flux2": Tiny(make_flux2, flux2_inputs),
    "cogvideox": Tiny(make_cogvideox, cogvideox_inputs),
    "qwen-image": Tiny(make_qwen_image, qwen_image_inputs),
    "z-image": Tiny(
        make_z_image, z_image_inputs, latents="x", time="t", times=tuple(t / 1000 for t in RISING)
    ),
    "ltx-video": Tiny(make_ltx_video, ltx_video_inputs),
}
ALL = BLOCK_FAMILIES | ATTENTION_FAMILIES


def as_tensor(value: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.stack(value)


def denoise(
    tiny: Tiny, model: torch.nn.Module, calls: list[dict[str, Any]], steps: int | None = None
) -> torch.Tensor:
    """The predictions of each step, [steps, ...]: `calls` are the model calls of a step, over the same
    latents, which take a small step along the last one's prediction."""
    latents = calls[0][tiny.latents]
    predictions = []
    with torch.no_grad():
        for time in tiny.times[:steps]:
            for call in calls:
                batch = len(latents)
                inputs = call | {tiny.latents: latents, tiny.time: torch.full((batch,), time)}
                prediction = model(**inputs, return_dict=False)[0]
                predictions.append(as_tensor(prediction))
            if isinstance(latents, list):
                latents = [x - 0.05 * p for x, p in zip(latents, prediction)]
            else:
                latents = latents.clone()
                channels = (
                    -1 if latents.ndim == 3 else 2 if "cogvideox" in type(model).__name__.lower() else 1
                )
                latents.narrow(channels, 0, prediction.shape[channels]).sub_(0.05 * prediction)
    return torch.stack(predictions)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def attributes(model: torch.nn.Module) -> dict[str, set[str]]:
    """The names of all attributes of all modules."""
    return {name: set(vars(module)) for name, module in model.named_modules()}
