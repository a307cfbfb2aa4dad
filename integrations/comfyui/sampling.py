"""One sampling run of ComfyUI over an accelerated model: its steps, the state of its model calls, and what answers the
model's attention and blocks.

Steps are evaluations of the model: they are read off the noise levels, and calls within one are told apart by the
conditionings that ComfyUI batches in them. State lives as long as the run.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import torch
from tamias import SparsityConfig, UnsupportedError
from tamias.denoising.invocation import Invocation, kind_of, report_of
from tamias.denoising.model_call import ModelCall, Transformer, check_activations
from tamias.denoising.product import Product
from tamias.denoising.token_layout import TokenLayout
from torch import nn

from .models import Family

# Additive masks have 0 where attention looks, and less than this where it does not.
_MASKED = -1e4


class Run:
    """What one sampling run remembers."""

    def __init__(self) -> None:
        self.invocations: dict[Hashable, Invocation] = {}
        self.step = -1
        # For each step the kinds of its calls.
        self.kinds: list[list[str]] = []
        self._sigma: float | None = None
        self._called: set[Hashable] = set()

    def invocation_of(self, key: Hashable, sigma: float) -> Invocation:
        """The invocation of a call; begins a step where the noise level is another, or this was called before."""
        if sigma != self._sigma or key in self._called:
            self.step += 1
            self.kinds.append([])
            self._sigma = sigma
            self._called = set()
        self._called.add(key)
        return self.invocations.setdefault(key, Invocation())

    def report(self) -> dict[str, Any]:
        return {"steps": [kind_of(kinds) for kinds in self.kinds]} | report_of(
            list(self.invocations.values())
        )


class Accelerator:
    """Wraps the sampling runs and the calls of one model (ComfyUI's outer_sample and diffusion_model)."""

    def __init__(self, model: nn.Module, family: Family, config: SparsityConfig, threads: int) -> None:
        self._family = family
        self._config = config
        self._keys = family.keys(model)
        self._transformer = Transformer(
            family.class_name, config, len(self._keys), family.channels(model), family.text_is_first, threads
        )
        self._run: Run | None = None
        # Of the last run.
        self.report: dict[str, Any] = {}

    def sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """A sampling run."""
        sigmas = inspect.signature(executor.original).bind(*args, **kwargs).arguments.get("sigmas")
        for warning in self._config.warnings(0 if sigmas is None else len(sigmas) - 1):
            logging.warning("Tamias: %s", warning)
        before, self._run = self._run, Run()
        try:
            return executor(*args, **kwargs)
        finally:
            self.report = self._run.report()
            self._run = before
            logging.info("Tamias: %s", _summary(self.report))

    def forward(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """A call of the model; outside of a sampling run it is the model's alone."""
        if self._run is None:
            return executor(*args, **kwargs)
        bound = inspect.signature(executor.original).bind(*args, **kwargs)
        options = bound.arguments.get("transformer_options") or {}
        if "sigmas" not in options:
            raise UnsupportedError(
                f"{self._family.class_name}: transformer_options: expected sigmas, found none: ComfyUI is too old"
            )
        arguments = bound.arguments | bound.arguments.get("kwargs", {})
        check_activations(self._family.class_name, arguments["x"])
        sigma = float(options["sigmas"].max())
        invocation = self._run.invocation_of(_key_of(arguments, options), sigma)
        model = executor.class_obj
        grid = self._family.grid(model, arguments)
        call = _Call(self._transformer, invocation, self._run.step, sigma, grid, arguments["x"])
        call.prepare(self._family, model, self._keys, options)
        kinds = self._run.kinds[-1]
        if call.has_nothing_to_reuse:
            kinds.append("full")
            return executor(*args, **kwargs)
        if call.needs_no_model:
            result = call.reused_prediction()
        else:
            bound.arguments["transformer_options"] = call.options(options)
            result = call.finish(executor(*bound.args, **bound.kwargs))
        kinds.append(call.kind)
        return result


def _key_of(arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Hashable:
    """What a call has in common with the same one of another step, and with no other of its own."""
    window = options.get("context_window")
    return (
        tuple(options.get("uuids") or options.get("cond_or_uncond") or ()),
        tuple(arguments["x"].shape),
        arguments["x"].dtype,
        tuple(getattr(arguments.get("context"), "shape", ())),
        # Guidance by layers left out calls the model a second time, with other blocks in their place.
        tuple(sorted(map(str, options.get("patches_replace", {}).get("dit", {})))),
        tuple(getattr(window, "index_list", ())),
    )


def _summary(report: Mapping[str, Any]) -> str:
    kinds = report["steps"]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("full", "sparse", "skip"))
    left_out = f"{report['attention_sparsity']:.0%} of attention left out where the model ran"
    return f"{len(kinds)} steps ({counted}), {left_out}, {report['state_bytes'] >> 20} MiB of state"


class _Call(ModelCall):
    """A call of the model, with what stands in for its attention and its blocks."""

    def prepare(
        self, family: Family, model: nn.Module, keys: list[tuple[str, int]], options: Mapping[str, Any]
    ) -> None:
        self._family, self._model, self._keys = family, model, keys
        # What other nodes have put there.
        self._other_attention = options.get("optimized_attention_override")
        # Layers whose self-attention has run.
        self._attended: set[int] = set()
        if self._invocation.items:
            self.begin()

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options for the model's call: ours end with it."""
        options = dict(given)
        # Attention before the first block, such as a text's, belongs to none.
        options.pop("block_type", None)
        options.pop("block_index", None)
        options["optimized_attention_override"] = self._attention
        if self.keeps_hidden or self.measures_change:
            replaced = dict(options.get("patches_replace", {}))
            blocks = dict(replaced.get("dit", {}))
            for index, (kind, number) in enumerate(self._keys):
                key = (f"{kind}_block", number)
                blocks[key] = partial(self._block, index, blocks.get(key))
            options["patches_replace"] = replaced | {"dit": blocks}
        return options

    def finish(self, result: torch.Tensor) -> torch.Tensor:
        """The model's output, where its own is this."""
        if not self._attended and not self._skips_blocks:
            raise UnsupportedError(
                f"{self._family.class_name}: expected attention that may be overridden in its blocks, found none: "
                "ComfyUI is too old"
            )
        if self.needs_no_model:
            return self.reused_prediction()
        self.end(result)
        return result

    # Blocks.

    def _block(
        self,
        index: int,
        other: Callable[..., Any] | None,
        arguments: dict[str, Any],
        extra: Mapping[str, Any],
    ) -> dict[str, torch.Tensor]:
        """In place of a block. other: what another node has put there."""
        can_skip = bool(self._invocation.items)
        if index == 0 and can_skip and self.measures_change and not self._skips_blocks:
            block = self._family.first_block(self._model)
            self.measure_change(self._family.modulated_input(block, arguments))
        is_last = index == len(self._keys) - 1
        if self._skips_blocks:
            result = {name: arguments[name] for name in ("img", "txt") if arguments.get(name) is not None}
            if is_last and self.keeps_hidden:
                hidden = result["img"].clone()
                self._image_of(hidden).copy_(self.reused_hidden(self._image_of(hidden)))
                result["img"] = hidden
            return result
        result = other(arguments, extra) if other is not None else extra["original_block"](arguments)
        if is_last and self.keeps_hidden:
            self.store_hidden(self._image_of(result["img"]))
        return result

    def _image_of(self, tokens: torch.Tensor) -> torch.Tensor:
        """The image's of a sequence with or without text."""
        return TokenLayout(self._transformer.text_is_first, self._image_tokens).split(tokens, 1)[1]

    # Attention.

    def _layer_of(self, options: Mapping[str, Any] | None) -> int | None:
        """The layer that the model is in."""
        if options is None:
            return None
        key = (options.get("block_type"), options.get("block_index"))
        return self._keys.index(key) if key in self._keys else None

    def _attention(
        self,
        function: Callable[..., torch.Tensor],
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        heads: int,
        mask: torch.Tensor | None = None,
        **options: Any,
    ) -> torch.Tensor:
        """In place of ComfyUI's attention, with its arguments: query, key, value [B, S, H * D] or, with skip_reshape,
        [B, H, S, D]; the result alike, as skip_output_reshape says."""

        def split(x: torch.Tensor) -> torch.Tensor:
            return x if options.get("skip_reshape") else x.unflatten(-1, (heads, -1)).transpose(1, 2)

        layer = self._layer_of(options.get("transformer_options"))
        product = None
        if layer is not None and layer not in self._attended:
            product = Product(split(query), split(key), split(value), _kept(mask), scale=options.get("scale"))
        if product is None or not product.may_be_self_attention:
            plain = function if self._other_attention is None else partial(self._other_attention, function)
            return plain(query, key, value, heads, mask=mask, **options)
        self._attended.add(layer)
        result = self.attend(layer, product, 0)
        return result if options.get("skip_output_reshape") else result.transpose(1, 2).flatten(2)


def _kept(mask: torch.Tensor | None) -> torch.Tensor | None:
    """A mask of ComfyUI as booleans [B, 1 or H, 1 or S, S]."""
    if mask is None:
        return None
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 3:
        mask = mask[:, None]
    if mask.dtype == torch.bool:
        return mask
    kept = mask == 0
    if not (kept | (mask < _MASKED)).all():
        raise UnsupportedError("attention mask: expected tokens seen or not, found weights")
    return kept
