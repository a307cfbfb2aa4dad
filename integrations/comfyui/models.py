"""ComfyUI's own model classes that are served: where each has its blocks, and how its latents become tokens.

Symbols: B batch, N image tokens, d model width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tamias import UnsupportedError
from torch import nn

Grid = tuple[int, int, int]
Arguments = Mapping[str, Any]


def _patches(latents: torch.Tensor, sides: tuple[int, ...]) -> tuple[int, ...]:
    """Patches along the last axes of latents, which the models pad to whole ones."""
    return tuple(-(-size // side) for size, side in zip(latents.shape[-len(sides) :], sides))


def _refuse(arguments: Arguments, family: str, *names: str) -> None:
    for name in names:
        if arguments.get(name) is not None:
            raise UnsupportedError(f"{family}: {name}: expected none, found some: not served")


def _flux_grid(model: nn.Module, arguments: Arguments) -> Grid:
    sides = (model.patch_size, model.patch_size)
    height, width = _patches(arguments["x"], sides)
    references = arguments.get("ref_latents")
    if not references:
        return 1, height, width
    # Pictures to refer to are tokens behind the picture's own: no grid, and any order is right.
    tokens = height * width
    for reference in references:
        rows, columns = _patches(reference, sides)
        tokens += rows * columns
    return 1, 1, tokens


def _hunyuan_video_grid(model: nn.Module, arguments: Arguments) -> Grid:
    _refuse(arguments, "HunyuanVideo", "ref_latent", "guiding_frame_index")
    sides = _patches(arguments["x"], tuple(model.patch_size))
    return sides if len(sides) == 3 else (1, *sides)


def _wan_grid(model: nn.Module, arguments: Arguments) -> Grid:
    _refuse(arguments, "WanModel", "time_dim_concat", "reference_latent")
    return _patches(arguments["x"], tuple(model.patch_size))


def _double_stream_input(block: nn.Module, arguments: Arguments) -> torch.Tensor:
    vec = arguments["vec"]
    own = block.img_mod(vec) if block.modulation else vec[0]
    return block.img_norm1(arguments["img"]) * (1 + own[0].scale) + own[0].shift


def _wan_input(block: nn.Module, arguments: Arguments) -> torch.Tensor:
    hidden, vec = arguments["img"], arguments["vec"]
    # Rows 0 and 1 of the six of a modulation shift and scale: one for all tokens, or one for each frame's.
    rows = block.modulation.to(vec) + vec
    shift, scale = (rows[..., row, :].reshape(len(rows), -1, hidden.shape[-1]) for row in (0, 1))
    times = hidden.shape[1] // shift.shape[1]
    return block.norm1(hidden) * (1 + scale.repeat_interleave(times, 1)) + shift.repeat_interleave(times, 1)


@dataclass(frozen=True)
class Family:
    """One row of the table.

    blocks: by ComfyUI's name for a kind of block, the attribute with the list of those. output: the path of the layer
        whose features are a token's prediction.
    modulated_input: what the first block's attention sees of the image tokens, [B, N, d], from what a replacement of
        the block is given.
    """

    class_name: str
    profile: str
    blocks: Mapping[str, str]
    grid: Callable[[nn.Module, Arguments], Grid]
    modulated_input: Callable[[nn.Module, Arguments], torch.Tensor]
    output: str
    text_is_first: bool = True

    def keys(self, model: nn.Module) -> list[tuple[str, int]]:
        """The kind and number of each block, in the order in which they run."""
        return [(kind, i) for kind, name in self.blocks.items() for i in range(len(getattr(model, name)))]

    def first_block(self, model: nn.Module) -> nn.Module:
        return next(getattr(model, name)[0] for name in self.blocks.values() if len(getattr(model, name)))

    def channels(self, model: nn.Module) -> int:
        return model.get_submodule(self.output).out_features


_DOUBLE_AND_SINGLE = {"double": "double_blocks", "single": "single_blocks"}

FAMILIES = (
    Family("Flux", "flux-1-dev", _DOUBLE_AND_SINGLE, _flux_grid, _double_stream_input, "final_layer.linear"),
    Family(
        "HunyuanVideo", "hunyuan-video", _DOUBLE_AND_SINGLE, _hunyuan_video_grid, _double_stream_input,
        "final_layer.linear", text_is_first=False,
    ),
    Family("WanModel", "wan-2.1", {"double": "blocks"}, _wan_grid, _wan_input, "head.head"),
)  # fmt: skip


def family_of(model: nn.Module) -> Family:
    name = type(model).__name__
    for family in FAMILIES:
        if family.class_name == name:
            return family
    served = ", ".join(family.class_name for family in FAMILIES)
    raise UnsupportedError(f"model: expected one of {served}, found {name}")
