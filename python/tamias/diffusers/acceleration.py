"""What stands between a pipeline's transformer and its modules while it is accelerated."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tamias import InvalidArgumentError, SparsityConfig, UnsupportedError
from tamias._tamias import Context
from tamias.arrays import context_dtype
from tamias.denoising.invocation import kind_of, report_of
from tamias.denoising.model_call import Transformer, check_activations
from tamias.diffusers.families import FAMILIES, BlockFamily, Family, bind, family_of
from tamias.diffusers.forward import Forward
from tamias.diffusers.generation import Generation, Inputs, tensors_of
from tamias.diffusers.interception import Interceptions, owner_of
from tamias.diffusers.mlp import SingleBlockMlp
from tamias.pipeline import assignments

# Where pipelines have their transformers; those of Wan 2.2 have one for each half of the steps.
_TRANSFORMERS = ("transformer", "transformer_2")


def _transformers_of(target: Any) -> dict[str, nn.Module]:
    if isinstance(target, nn.Module):
        return {_TRANSFORMERS[0]: target}
    found = {name: getattr(target, name, None) for name in _TRANSFORMERS}
    found = {name: module for name, module in found.items() if isinstance(module, nn.Module)}
    if not found:
        served = ", ".join(family.class_name for family in FAMILIES)
        raise UnsupportedError(
            f"accelerate: expected a pipeline with a transformer, found {type(target).__name__}; served "
            f"transformers: {served}"
        )
    return found


def _profile_of(target: Any, family: Family) -> str:
    """That of tamias.json in the folder that the model was loaded from, else of its family."""
    name = getattr(target, "config", {}).get("_name_or_path")
    if isinstance(name, (str, os.PathLike)) and os.path.isdir(name):
        # A transformer's own folder lies in its pipeline's.
        for folder in (Path(name), Path(name).resolve().parent):
            path = folder / "tamias.json"
            profile = json.loads(path.read_text()).get("profile") if path.is_file() else None
            if isinstance(profile, str):
                return profile
    if family.profile is None:
        raise InvalidArgumentError(
            f"accelerate: sparsity: {family.class_name} has no profile of its own: expected the name of a "
            "profile or the path of a YAML file, found 'auto'"
        )
    return family.profile


def _config_of(
    target: Any, family: Family, sparsity: Any, overrides: Mapping[str, Any] | Sequence[str]
) -> SparsityConfig:
    if isinstance(sparsity, SparsityConfig):
        config = SparsityConfig.parse(sparsity.yaml)  # a copy: overrides are not the caller's
    elif sparsity == "off":
        if overrides:
            raise InvalidArgumentError("accelerate: overrides: expected none with sparsity 'off', found some")
        config = SparsityConfig.dense()
    else:
        name = os.fspath(sparsity)
        config = SparsityConfig.load(_profile_of(target, family) if name == "auto" else name)
    for assignment in assignments(overrides):
        config.set(assignment)
    if not isinstance(family, BlockFamily):
        _restrict_to_attention(config, family)
    return config


def _restrict_to_attention(config: SparsityConfig, family: Family) -> None:
    config.set("mlp.is_enabled=false")
    caching = config.step_caching
    if not caching.is_enabled:
        return
    if caching.reuse == "hidden":
        raise UnsupportedError(
            f"step_caching.reuse: expected 'prediction' or 'extrapolate' with {family.class_name}, "
            "found 'hidden'"
        )
    if caching.threshold > 0:
        raise UnsupportedError(
            f"step_caching.threshold: expected 0 with {family.class_name}, found {caching.threshold}"
        )


class AcceleratedTransformer:
    """One transformer, the modules of it whose calls are answered here, and the state of its generation."""

    def __init__(
        self, transformer: nn.Module, family: Family, config: SparsityConfig, threads: int, owner: Any
    ) -> None:
        self.transformer = transformer
        self.family = family
        self.config = config
        self.layers = family.layers(transformer)
        self.common = Transformer(
            family.class_name, config, len(self.layers), family.prediction_channels(transformer),
            family.text_is_first, threads,
        )  # fmt: skip
        self.generation: Generation | None = None
        # Under way; the calls of two threads take turns.
        self._forward: Forward | None = None
        self._lock = threading.Lock()
        self._interceptions = Interceptions(owner)
        try:
            self._intercept()
        except BaseException:
            self.restore()
            raise

    def _intercept(self) -> None:
        self._interceptions.add(self.transformer, self._call)
        for index, layer in enumerate(self.layers):
            self._interceptions.add(layer.attention, self._answer(Forward.attention, index))
            if isinstance(self.family, BlockFamily):
                self._interceptions.add(layer.block, self._answer(Forward.block, index))

    def _answer(self, answer: Any, index: int) -> Any:
        """Answers a module of layer `index` while a forward is under way; else the module does."""

        def answer_or_run(plain: Any, *args: Any, **kwargs: Any) -> Any:
            forward = self._forward
            if forward is None:
                return plain(*args, **kwargs)
            return answer(forward, index, plain, *args, **kwargs)

        return answer_or_run

    def restore(self) -> None:
        self._interceptions.remove_all()
        self.reset()

    def reset(self) -> None:
        self.generation = None
        for layer in self.layers:
            if layer.mlp is not None:
                layer.mlp.forget()

    def _call(self, plain: Any, *args: Any, **kwargs: Any) -> Any:
        """The transformer's call."""
        arguments = dict(bind(self.transformer, args, kwargs).arguments)
        inputs = self._inputs_of(arguments)
        self._check(inputs)
        with self._lock:
            try:
                return self._run(inputs, arguments, partial(plain, *args, **kwargs))
            except BaseException:
                self.reset()  # the state is that of a step half done
                raise
            finally:
                self._forward = None

    def _inputs_of(self, arguments: dict[str, Any]) -> Inputs:
        time = arguments.get(self.family.time)
        if time is None:
            raise InvalidArgumentError(
                f"{self.family.class_name}: {self.family.time}: expected a timestep, found None"
            )
        own = (self.family.latents, self.family.time)
        conditions = {
            name: tensors_of(value)
            for name, value in arguments.items()
            if name == self.family.text or (isinstance(value, torch.Tensor) and name not in own)
        }
        # What is added between blocks changes from step to step; whether there is any may not.
        residuals = self.family.residuals if isinstance(self.family, BlockFamily) else ()
        conditions |= {name: [] for name in residuals if arguments.get(name) is not None}
        return Inputs(
            float(time.max()) if isinstance(time, torch.Tensor) else float(time),
            tensors_of(arguments[self.family.latents]),
            conditions,
        )

    def _check(self, inputs: Inputs) -> None:
        name = self.family.class_name
        if torch.is_grad_enabled():
            raise InvalidArgumentError(
                f"{name}: gradients are not computed: call it within torch.no_grad() or "
                "torch.inference_mode()"
            )
        check_activations(name, inputs.latents[0])
        if getattr(self.transformer, "is_cache_enabled", False):
            raise UnsupportedError(f"{name}: a cache of diffusers is enabled: disable_cache() first")

    def _run(self, inputs: Inputs, arguments: dict[str, Any], run: Any) -> Any:
        invocation = None
        if self.generation is not None:
            invocation = self.generation.invocation_of(inputs, self.family.time_rises)
        if invocation is None:
            self.generation = Generation(inputs)
            self._take_weights(inputs.latents[0])
            invocation = self.generation.invocation_of(inputs, self.family.time_rises)
        forward = Forward(self, invocation, self.generation.step, inputs, arguments)
        kinds = self.generation.kinds[-1]
        if forward.has_nothing_to_reuse:
            kinds.append("full")
            return run()
        if forward.needs_no_model:
            result = forward.returned(forward.reused_prediction())
        else:
            self._forward = forward
            result = forward.finish(run())
        kinds.append(forward.kind)
        return result

    def _take_weights(self, latents: torch.Tensor) -> None:
        """Of the MLPs, for a generation: weights and LoRAs may have changed since the last one."""
        if not self.config.mlp.is_enabled:
            return
        for index, layer in enumerate(self.layers):
            if layer.mlp is None:
                continue
            layer.mlp.prepare(latents)
            if layer.mlp.weights is None:
                continue
            if isinstance(layer.mlp, SingleBlockMlp):
                answers = (Forward.single_fc1, Forward.single_activation, Forward.single_fc2)
                for module, answer in zip(layer.mlp.modules(), answers):
                    self._interceptions.add(module, self._answer(answer, index))
            else:
                self._interceptions.add(layer.mlp.module, self._answer(Forward.feed_forward, index))

    def report(self) -> dict[str, Any]:
        invocations = [] if self.generation is None else self.generation.invocations
        kinds = [] if self.generation is None else self.generation.kinds
        steps = [
            {"step": step, "kind": kind_of(of_calls), "invocations": len(of_calls)}
            for step, of_calls in enumerate(kinds)
        ]
        return {"steps": steps} | report_of(invocations)


class Acceleration:
    """A pipeline that runs accelerated. As a context manager it restores the pipeline at its end."""

    def __init__(self, parts: dict[str, tuple[nn.Module, Family, SparsityConfig]], threads: int) -> None:
        self._parts: dict[str, AcceleratedTransformer] = {}
        try:
            for name, (transformer, family, config) in parts.items():
                self._parts[name] = AcceleratedTransformer(transformer, family, config, threads, self)
        except BaseException:
            self.restore()
            raise

    @property
    def config(self) -> SparsityConfig:
        """What is in force."""
        return self._parts[_TRANSFORMERS[0]].config

    def report(self) -> dict[str, Any]:
        """Of the last generation: the kind of each step ("full", "sparse" or "skip") and its model calls, the
        shares of attention and MLPs that were not computed, and the size of the state. A second transformer
        has its own, as "transformer_2"."""
        reports = {name: part.report() for name, part in self._parts.items()}
        return reports.pop(_TRANSFORMERS[0]) | reports

    def reset(self) -> None:
        """Frees the state of the last generation; the next call begins a new one."""
        for part in self._parts.values():
            part.reset()

    def restore(self) -> None:
        """Gives the pipeline back as it was."""
        for part in self._parts.values():
            part.restore()

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.restore()


def accelerate(
    target: Any, sparsity: Any, overrides: Mapping[str, Any] | Sequence[str], threads: int
) -> Acceleration:
    if isinstance(overrides, str):
        raise InvalidArgumentError(
            f"accelerate: overrides: expected several assignments, found '{overrides}'"
        )
    parts = {}
    for name, transformer in _transformers_of(target).items():
        family = family_of(transformer)
        parameter = next(transformer.parameters())
        # Offloaded weights lie elsewhere between calls.
        if parameter.device.type != "meta" and not hasattr(transformer, "_hf_hook"):
            check_activations(
                family.class_name, torch.empty(0, dtype=transformer.dtype, device=parameter.device)
            )
            Context(
                1, context_dtype(parameter), str(parameter.device)
            )  # throws where there is no such device
        parts[name] = transformer, family, _config_of(target, family, sparsity, overrides)
    restore(target)
    return Acceleration(parts, threads)


def restore(target: Any) -> None:
    for transformer in _transformers_of(target).values():
        owner = owner_of(transformer)
        if owner is not None:
            owner.restore()
