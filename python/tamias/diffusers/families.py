"""The transformers that are served: where each has its blocks, attention, MLPs, text and grid of tokens.

A BlockFamily's image tokens lie in the session's order from its first block to its last, its MLPs are served,
and skipped steps may reuse the hidden state. A Family is served by its attention alone, which reorders tokens
inside.
Symbols: B batch, L text tokens, N image tokens, d model width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from tamias import UnsupportedError
from tamias.denoising.token_layout import in_order
from tamias.diffusers.mlp import FeedForwardMlp, Mlp, SingleBlockMlp

Grid = tuple[int, int, int]
Arguments = Mapping[str, Any]


@lru_cache(maxsize=None)
def _signature(class_: type[nn.Module]) -> inspect.Signature:
    return inspect.signature(class_.forward)


def bind(module: nn.Module, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    """The arguments of a call of the module by their names in its class; `self` is the first."""
    return _signature(type(module)).bind(module, *args, **kwargs)


@dataclass(frozen=True)
class Layer:
    """One transformer block as a layer of a session. mlp: that of its image tokens; None: none is served."""

    block: nn.Module
    attention: nn.Module
    mlp: Mlp | None = None


def _patches(patch: Grid, latents: torch.Tensor, axes: Grid) -> Grid:
    """Tokens of time, height and width where latents have these axes."""
    time, height, width = (latents.shape[axis] // side for axis, side in zip(axes, patch))
    return time, height, width


@dataclass(frozen=True)
class Family:
    """One row of the table.

    blocks: the names of the lists of blocks; attention: that of a block's self-attention.
    latents, time, text: names of the forward's arguments; output: of the module whose channels a prediction
        has.
    time_rises: timesteps grow from step to step; else they fall.
    """

    class_name: str
    grid: Callable[[nn.Module, Arguments], Grid]
    blocks: tuple[str, ...] = ("transformer_blocks",)
    attention: str = "attn"
    text_is_first: bool = True
    latents: str = "hidden_states"
    time: str = "timestep"
    text: str = "encoder_hidden_states"
    time_rises: bool = False
    output: str = "proj_out"
    profile: str | None = None

    def check(self, transformer: nn.Module) -> None:
        """Refuses what shares the class but is not served."""

    def layers(self, transformer: nn.Module) -> list[Layer]:
        blocks = [block for name in self.blocks for block in getattr(transformer, name)]
        return [Layer(block, getattr(block, self.attention), self.mlp_of(block)) for block in blocks]

    def mlp_of(self, block: nn.Module) -> Mlp | None:
        """None: it is left to the model."""
        return None

    def prediction_channels(self, transformer: nn.Module) -> int:
        """Numbers of a prediction for each image token."""
        module = transformer
        for name in self.output.split("."):
            module = module[name] if isinstance(module, nn.ModuleDict) else getattr(module, name)
        return module.out_features


@dataclass(frozen=True)
class BlockFamily(Family):
    """A family whose blocks are reached around.

    mlp: the name of the MLP of a block's image tokens; blocks without one are single-stream blocks.
    per_token: the names of what a block takes for each image token; token_axis: that of the tokens in rotary
        tables.
    result: the place of the image tokens in what a block returns; None: it returns them alone.
    """

    mlp: str = "ff"
    per_token: tuple[str, ...] = ("image_rotary_emb",)
    token_axis: int = 0
    result: int | None = 0
    # Arguments of the forward that it adds to the image tokens between blocks.
    residuals: tuple[str, ...] = ()

    def mlp_of(self, block: nn.Module) -> Mlp:
        return FeedForwardMlp(block, self.mlp) if hasattr(block, self.mlp) else SingleBlockMlp(block)

    def text_rows(self, arguments: Arguments) -> tuple[int, list[torch.Tensor | None]]:
        """L and for each item of the batch the text's rows that are no padding; None: all."""
        raise NotImplementedError

    def modulated_input(self, block: nn.Module, arguments: Arguments) -> torch.Tensor:
        """What the first block's attention sees of the image tokens, [B, N, d]."""
        return block.norm1(arguments["hidden_states"], arguments["temb"])[0]

    def reorder(self, given: Any, order: torch.Tensor) -> Any:
        """One of per_token, by default the pair of rotary tables, in this order."""
        return tuple(self._reorder_table(table, order) for table in given)

    def _reorder_table(self, table: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Rows of text, where the table has any, lie before those of the image."""
        text_tokens = table.shape[self.token_axis] - len(order)
        rows = torch.cat([torch.arange(text_tokens, device=order.device), order + text_tokens])
        return in_order(table, self.token_axis, rows.to(table.device))


def _mask_rows(mask: torch.Tensor) -> tuple[int, list[torch.Tensor | None]]:
    """Of a mask [B, L] of text tokens."""
    rows = [item.nonzero().flatten() for item in mask]
    return mask.shape[1], [None if len(row) == mask.shape[1] else row for row in rows]


class Flux(BlockFamily):
    """FLUX.1: double-stream blocks, then single-stream blocks, whose MLP is that of all tokens."""

    def check(self, transformer: nn.Module) -> None:
        for block in transformer.single_transformer_blocks[:1]:
            if "encoder_hidden_states" not in _signature(type(block)).parameters:
                raise UnsupportedError(
                    f"{type(block).__name__}: expected encoder_hidden_states beside hidden_states, found "
                    "none: diffusers is too old"
                )

    def text_rows(self, arguments: Arguments) -> tuple[int, list[torch.Tensor | None]]:
        batch, text_tokens = arguments["encoder_hidden_states"].shape[:2]
        return text_tokens, [None] * batch

    def modulated_input(self, block: nn.Module, arguments: Arguments) -> torch.Tensor:
        norm = block.norm1 if hasattr(block, "norm1") else block.norm  # without double-stream blocks
        return norm(arguments["hidden_states"], emb=arguments["temb"])[0]


class HunyuanVideo(Flux):
    """As FLUX.1, with padded text behind the video."""

    def check(self, transformer: nn.Module) -> None:
        found = transformer.config.image_condition_type
        if found is not None:
            raise UnsupportedError(f"{self.class_name}: image_condition_type: expected None, found '{found}'")

    def text_rows(self, arguments: Arguments) -> tuple[int, list[torch.Tensor | None]]:
        # The model masks what lies behind the sum of the mask.
        mask = arguments["encoder_attention_mask"]
        lengths = mask.sum(dim=1, dtype=torch.int)
        return _mask_rows(torch.arange(mask.shape[1], device=mask.device) < lengths[:, None])


class Wan(BlockFamily):
    """Wan 2.1: the video alone in self-attention; the text is seen by cross-attention."""

    def text_rows(self, arguments: Arguments) -> tuple[int, list[torch.Tensor | None]]:
        return 0, [None] * len(arguments["encoder_hidden_states"])

    def reorder(self, given: Any, order: torch.Tensor) -> Any:
        if isinstance(given, tuple):
            return super().reorder(given, order)
        # temb: one modulation for all tokens, or one for each (Wan 2.2)
        return in_order(given, 1, order) if given.ndim == 4 else given

    def modulated_input(self, block: nn.Module, arguments: Arguments) -> torch.Tensor:
        # The block modulates in its forward: row 0 of the table shifts, row 1 scales.
        hidden = arguments["hidden_states"]
        table = (block.scale_shift_table + arguments["temb"].float()).unsqueeze(-3)
        shift, scale = table[..., 0, :], table[..., 1, :]
        if arguments["temb"].ndim == 4:
            shift, scale = shift.squeeze(2), scale.squeeze(2)
        return (block.norm1(hidden.float()) * (1 + scale) + shift).type_as(hidden)


class Mochi(BlockFamily):
    """Mochi 1: one attention product for each item, over the video and the text that is no padding."""

    def text_rows(self, arguments: Arguments) -> tuple[int, list[torch.Tensor | None]]:
        return _mask_rows(arguments["encoder_attention_mask"])


def _grid_of_positions(positions: torch.Tensor, tokens: int) -> Grid:
    """Of the img_ids [N, 3 or 4] of FLUX.1 and FLUX.2: columns 1 and 2 are row and column in a picture.
    Anything else, such as a picture beside another to refer to, is a row of tokens: any order gives a correct
    picture.
    """
    ids = positions.reshape(-1, positions.shape[-1])[:tokens].long().cpu()
    rows, columns = ids[:, 1], ids[:, 2]
    width = int(columns.max() - columns.min()) + 1
    index = torch.arange(tokens)
    is_grid = (
        tokens % width == 0
        and torch.equal(rows - rows.min(), index // width)
        and torch.equal(columns - columns.min(), index % width)
    )
    return (1, tokens // width, width) if is_grid else (1, 1, tokens)


def _flux_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    return _grid_of_positions(arguments["img_ids"], arguments["hidden_states"].shape[1])


def _hunyuan_video_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    config = transformer.config
    patch = (config.patch_size_t, config.patch_size, config.patch_size)
    return _patches(patch, arguments["hidden_states"], (2, 3, 4))


def _wan_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    return _patches(tuple(transformer.config.patch_size), arguments["hidden_states"], (2, 3, 4))


def _mochi_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    side = transformer.config.patch_size
    return _patches((1, side, side), arguments["hidden_states"], (2, 3, 4))


def _sd3_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    side = transformer.config.patch_size
    height, width = (size // side for size in arguments["hidden_states"].shape[-2:])
    return 1, height, width


def _cogvideox_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    side = transformer.config.patch_size
    patch = (transformer.config.patch_size_t or 1, side, side)
    return _patches(patch, arguments["hidden_states"], (1, 3, 4))


def _qwen_image_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    """The picture's, or a row of tokens where there are pictures to edit beside it."""
    pictures = arguments["img_shapes"][0]
    pictures = [pictures] if isinstance(pictures[0], int) else pictures
    return tuple(pictures[0]) if len(pictures) == 1 else (1, 1, arguments["hidden_states"].shape[1])


def _z_image_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    side, time = arguments.get("patch_size", 2), arguments.get("f_patch_size", 1)
    return _patches((time, side, side), arguments["x"][0], (1, 2, 3))


def _ltx_video_grid(transformer: nn.Module, arguments: Arguments) -> Grid:
    return arguments["num_frames"], arguments["height"], arguments["width"]


_DOUBLE_AND_SINGLE = ("transformer_blocks", "single_transformer_blocks")

FAMILIES: tuple[Family, ...] = (
    Flux(
        "FluxTransformer2DModel", _flux_grid, profile="flux-1-dev", blocks=_DOUBLE_AND_SINGLE, result=1,
        residuals=("controlnet_block_samples", "controlnet_single_block_samples"),
    ),
    HunyuanVideo(
        "HunyuanVideoTransformer3DModel", _hunyuan_video_grid, profile="hunyuan-video",
        blocks=_DOUBLE_AND_SINGLE, text_is_first=False, per_token=("freqs_cis", "image_rotary_emb"),
    ),
    Wan(
        "WanTransformer3DModel", _wan_grid, profile="wan-2.1", blocks=("blocks",), attention="attn1",
        mlp="ffn", per_token=("rotary_emb", "temb"), token_axis=1, result=None,
    ),
    Mochi(
        "MochiTransformer3DModel", _mochi_grid, profile="mochi", attention="attn1", text_is_first=False,
        time_rises=True,
    ),
    Family("SD3Transformer2DModel", _sd3_grid, text_is_first=False),
    Family("Flux2Transformer2DModel", _flux_grid, blocks=_DOUBLE_AND_SINGLE),
    Family("CogVideoXTransformer3DModel", _cogvideox_grid, attention="attn1"),
    Family("QwenImageTransformer2DModel", _qwen_image_grid),
    Family(
        "ZImageTransformer2DModel", _z_image_grid, blocks=("layers",), attention="attention",
        text_is_first=False, latents="x", time="t", text="cap_feats", time_rises=True,
        output="all_final_layer.2-1.linear",
    ),
    Family("LTXVideoTransformer3DModel", _ltx_video_grid, attention="attn1"),
)  # fmt: skip


def family_of(transformer: nn.Module) -> Family:
    name = type(transformer).__name__
    if hasattr(transformer, "_orig_mod"):
        raise UnsupportedError(
            f"accelerate: {name}: expected a transformer that is not compiled, found one that is"
        )
    for family in FAMILIES:
        if family.class_name == name:
            family.check(transformer)
            return family
    served = ", ".join(family.class_name for family in FAMILIES)
    raise UnsupportedError(f"accelerate: {name} is not served; served: {served}")
