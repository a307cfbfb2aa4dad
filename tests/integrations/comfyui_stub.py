"""What the node for ComfyUI meets of ComfyUI, in small: a model patcher with wrappers, an attention function that
options override, models of three classes with blocks that options replace, and a sampler with guidance.

Names and arguments are ComfyUI's; what they do is written for the tests. Sizes are odd on purpose.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

HEADS, WIDTH, CHANNELS, TEXT_TOKENS = 2, 32, 4, 7


class Executor:
    """Wrappers around a function, each of which calls the next."""

    def __init__(
        self, original: Callable[..., Any], class_obj: Any, wrappers: list[Callable[..., Any]]
    ) -> None:
        self.original, self.class_obj, self._wrappers = original, class_obj, wrappers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._wrappers:
            return self.original(*args, **kwargs)
        return self._wrappers[0](Executor(self.original, self.class_obj, self._wrappers[1:]), *args, **kwargs)


class ModelPatcher:
    """A model with what nodes have put around it; clones share the model."""

    def __init__(self, diffusion_model: nn.Module) -> None:
        self.model = SimpleNamespace(diffusion_model=diffusion_model)
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.wrappers: dict[str, dict[str, list[Callable[..., Any]]]] = {}
        self.attachments: dict[str, Any] = {}

    def clone(self) -> ModelPatcher:
        made = ModelPatcher(self.model.diffusion_model)
        made.model_options = copy.deepcopy(self.model_options)
        made.wrappers = {
            kind: {key: list(w) for key, w in keyed.items()} for kind, keyed in self.wrappers.items()
        }
        made.attachments = dict(self.attachments)
        return made

    def get_model_object(self, name: str) -> Any:
        return getattr(self.model, name)

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Callable[..., Any]) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def remove_wrappers_with_key(self, kind: str, key: str) -> None:
        self.wrappers.get(kind, {}).pop(key, None)

    def set_attachments(self, key: str, attachment: Any) -> None:
        self.attachments[key] = attachment

    def wrappers_of(self, kind: str) -> list[Callable[..., Any]]:
        return [wrapper for keyed in self.wrappers.get(kind, {}).values() for wrapper in keyed]


def optimized_attention(query, key, value, heads, mask=None, skip_reshape=False, transformer_options=None):
    """softmax(q k^T / sqrt(D)) v of [B, S, H * D] or [B, H, S, D], or what the options have in its place."""
    override = (transformer_options or {}).get("optimized_attention_override")
    if override is not None:
        return override(
            _plain_attention, query, key, value, heads, mask=mask, skip_reshape=skip_reshape,
            transformer_options=transformer_options, _inside_attn_wrapper=True,
        )  # fmt: skip
    return _plain_attention(query, key, value, heads, mask=mask, skip_reshape=skip_reshape)


def _plain_attention(query, key, value, heads, mask=None, skip_reshape=False, **_):
    if not skip_reshape:
        query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if mask is not None and mask.ndim == 3:
        mask = mask[:, None]
    return (
        functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
    )


class Modulation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, vec):
        shift, scale, gate = self.lin(vec)[:, None].chunk(3, -1)
        return SimpleNamespace(shift=shift, scale=scale, gate=gate), None


class Block(nn.Module):
    """Joint attention of text and image; `single`: of one sequence."""

    def __init__(self, text_is_first: bool) -> None:
        super().__init__()
        self.modulation = True
        self.text_is_first = text_is_first
        self.img_mod = Modulation()
        self.img_norm1 = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.runs = 0

    def attend(self, x, vec, mask, options):
        own = self.img_mod(vec)[0]
        modulated = self.img_norm1(x) * (1 + own.scale) + own.shift
        qkv = self.qkv(modulated).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = optimized_attention(*qkv, HEADS, mask=mask, skip_reshape=True, transformer_options=options)
        return x + own.gate * self.out(attended)

    def forward(self, img, vec, txt=None, attn_mask=None, transformer_options=None):
        self.runs += 1
        if txt is None:
            return self.attend(img, vec, attn_mask, transformer_options)
        joint = torch.cat([txt, img] if self.text_is_first else [img, txt], 1)
        joint = self.attend(joint, vec, attn_mask, transformer_options)
        lengths = (txt.shape[1], img.shape[1]) if self.text_is_first else (img.shape[1], txt.shape[1])
        first, second = joint.split(lengths, 1)
        return (second, first) if self.text_is_first else (first, second)


class _Joint(nn.Module):
    """Double-stream blocks, then single-stream blocks."""

    text_is_first = True

    def __init__(self) -> None:
        super().__init__()
        self.img_in, self.txt_in, self.time_in = (
            nn.Linear(CHANNELS * 4, WIDTH),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(1, WIDTH),
        )
        self.double_blocks = nn.ModuleList(Block(self.text_is_first) for _ in range(2))
        self.single_blocks = nn.ModuleList(Block(self.text_is_first) for _ in range(2))
        self.final_layer = nn.Module()
        self.final_layer.linear = nn.Linear(WIDTH, CHANNELS * 4)
        self.patch_size = self.patch

    patch: Any = 2

    def forward(self, x, timestep, context, transformer_options=None, **kwargs):
        wrappers = transformer_options.get("wrappers", {}).get("diffusion_model", [])
        return Executor(self._forward, self, wrappers)(x, timestep, context, transformer_options, **kwargs)

    def _forward(self, x, timestep, context, transformer_options=None, attention_mask=None, **kwargs):
        batch, height, width = len(x), x.shape[-2], x.shape[-1]
        padded = functional.pad(x, (0, width % 2, 0, height % 2))
        frames = padded.shape[2] if x.ndim == 5 else 1
        rows, columns = padded.shape[-2] // 2, padded.shape[-1] // 2
        patches = padded.reshape(batch, CHANNELS, frames, rows, 2, columns, 2).permute(0, 2, 3, 5, 1, 4, 6)
        img = self.img_in(patches.reshape(batch, frames * rows * columns, CHANNELS * 4))
        txt = self._text(context, transformer_options)
        vec = self.time_in(timestep[:, None].to(x.dtype))
        mask = None
        if attention_mask is not None:  # over the text alone; whole numbers: seen or not, others are added
            if not attention_mask.is_floating_point():
                attention_mask = (attention_mask - 1) * torch.finfo(torch.float32).max
            mask = torch.zeros(1, 1, img.shape[1] + txt.shape[1])
            mask[:, 0, img.shape[1] :] = attention_mask
        img = self._blocks(img, txt, vec, mask, transformer_options)
        out = self.final_layer.linear(img).reshape(batch, frames, rows, columns, CHANNELS, 2, 2)
        out = out.permute(0, 4, 1, 2, 5, 3, 6).reshape(batch, CHANNELS, frames, 2 * rows, 2 * columns)
        out = out[..., :height, :width]
        return out if x.ndim == 5 else out[:, :, 0]

    def _text(self, context, options):
        return self.txt_in(context)

    def _blocks(self, img, txt, vec, mask, options):
        replaced = options.get("patches_replace", {}).get("dit", {})
        options["block_type"] = "double"
        for i, block in enumerate(self.double_blocks):
            options["block_index"] = i

            def run_double(args, block=block):
                found = block(args["img"], args["vec"], args["txt"], mask, args["transformer_options"])
                return dict(zip(("img", "txt"), found))

            args = {"img": img, "txt": txt, "vec": vec, "transformer_options": options}
            replacement = replaced.get(("double_block", i))
            found = replacement(args, {"original_block": run_double}) if replacement else run_double(args)
            img, txt = found["img"], found["txt"]
        text_tokens = txt.shape[1]
        img = torch.cat([txt, img] if self.text_is_first else [img, txt], 1)
        options["block_type"] = "single"
        for i, block in enumerate(self.single_blocks):
            options["block_index"] = i

            def run_single(args, block=block):
                return {"img": block(args["img"], args["vec"], None, mask, args["transformer_options"])}

            args = {"img": img, "vec": vec, "transformer_options": options}
            replacement = replaced.get(("single_block", i))
            img = (replacement(args, {"original_block": run_single}) if replacement else run_single(args))[
                "img"
            ]
        return img[:, text_tokens:] if self.text_is_first else img[:, : img.shape[1] - text_tokens]


class Flux(_Joint):
    """Pictures."""


class HunyuanVideo(_Joint):
    """Films, with padded text behind them that attends to itself before the blocks."""

    text_is_first = False
    patch = [1, 2, 2]

    def _text(self, context, options):
        txt = self.txt_in(context)
        return txt + optimized_attention(txt, txt, txt, HEADS, transformer_options=options)


class WanBlock(Block):
    """Attention of the film to itself, then to the text."""

    def __init__(self) -> None:
        super().__init__(True)
        self.modulation = nn.Parameter(torch.randn(1, 6, WIDTH))
        self.norm1 = self.img_norm1

    def forward(self, img, vec, txt=None, attn_mask=None, transformer_options=None):
        self.runs += 1
        rows = (self.modulation + vec).unbind(2)
        modulated = self.norm1(img) * (1 + rows[1]) + rows[0]
        options = transformer_options
        img = img + optimized_attention(*self.qkv(modulated).chunk(3, -1), HEADS, transformer_options=options)
        return img + self.out(optimized_attention(img, txt, txt, HEADS, transformer_options=options))


class WanModel(_Joint):
    """Films whose blocks see the text by cross-attention."""

    patch = [1, 2, 2]

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(WanBlock() for _ in range(3))
        self.head = nn.Module()
        self.head.head = self.final_layer.linear

    def _blocks(self, img, txt, vec, mask, options):
        vec = vec[:, None, None].expand(-1, 1, 6, -1)
        replaced = options.get("patches_replace", {}).get("dit", {})
        options["block_type"] = "double"
        for i, block in enumerate(self.blocks):
            options["block_index"] = i

            def run(args, block=block):
                return {
                    "img": block(args["img"], args["vec"], args["txt"], None, args["transformer_options"])
                }

            args = {"img": img, "txt": txt, "vec": vec, "transformer_options": options}
            replacement = replaced.get(("double_block", i))
            img = (replacement(args, {"original_block": run}) if replacement else run(args))["img"]
        return img


def noise_of(model: nn.Module) -> torch.Tensor:
    shape = (1, CHANNELS, 13, 16) if isinstance(model, Flux) else (1, CHANNELS, 3, 9, 12)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def prompt(seed: int) -> dict[str, Any]:
    """A conditioning."""
    context = torch.randn(1, TEXT_TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))
    return {"context": context, "uuid": uuid.uuid4()}


def sample(
    patcher: ModelPatcher, noise: torch.Tensor, prompts: list[dict[str, Any]], steps: int = 8, is_batched: bool = True,
    extra: dict[str, Any] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Euler's method; with two prompts the second is what guidance goes away from."""
    sigmas = torch.linspace(1, 0, steps + 1)

    def outer_sample(noise, latent_image, sampler, sigmas, denoise_mask=None):
        x = noise
        for sigma, following in zip(sigmas[:-1], sigmas[1:]):
            x = x + (following - sigma) * _guided(patcher, x, sigma, sigmas, prompts, is_batched, extra or {})
        return x

    with torch.inference_mode():
        wrapped = Executor(outer_sample, None, patcher.wrappers_of("outer_sample"))
        return wrapped(noise, None, None, sigmas)


def _guided(patcher, x, sigma, sigmas, prompts, is_batched, extra):
    groups = [prompts] if is_batched else [[one] for one in prompts]
    outputs = []
    for group in groups:
        options = copy.copy(patcher.model_options["transformer_options"])
        options |= {
            "wrappers": {"diffusion_model": patcher.wrappers_of("diffusion_model")},
            "uuids": [one["uuid"] for one in group],
            "cond_or_uncond": list(range(len(group))),
            "sigmas": sigma[None],
            "sample_sigmas": sigmas,
        }
        context = torch.cat([one["context"] for one in group])
        many = x.expand(len(group), *x.shape[1:])
        output = patcher.model.diffusion_model(
            many, sigma.expand(len(group)), context=context, transformer_options=options, **extra
        )
        outputs += output.chunk(len(group))
    return outputs[0] if len(outputs) == 1 else outputs[1] + 3 * (outputs[0] - outputs[1])
