"""Dynamic column sparsity for a denoising loop of your own: the state of a whole transformer (SparseSession), or of
one attention or MLP (DeltaAttention, DeltaMlp).

Symbols: B batch, H heads, L text tokens, N image tokens, D head dimension, d model width, F neurons, M rows of an MLP,
C output channels. Image tokens are in `token_order` and follow the text.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tamias import _tamias
from tamias._tamias import InvalidArgumentError, SparsityConfig
from tamias.arrays import Array, delivered, empty, has_own_order, on_stream, optional, readable, stream_of
from tamias.calls import call, checked

__all__ = ["DeltaAttention", "DeltaMlp", "MlpWeights", "SparseSession", "SparsityConfig"]


for _name in ("set", "kind_of_step", "warnings"):
    setattr(SparsityConfig, _name, checked(getattr(SparsityConfig, _name)))
for _name in ("load", "parse"):
    setattr(SparsityConfig, _name, staticmethod(checked(getattr(SparsityConfig, _name))))


def as_config(config: SparsityConfig | str | os.PathLike[str]) -> SparsityConfig:
    """A configuration, or the profile or file of that name."""
    if isinstance(config, (str, os.PathLike)):
        return SparsityConfig.load(os.fspath(config))
    if not isinstance(config, SparsityConfig):
        raise TypeError(f"config: expected tamias.SparsityConfig, a profile or a path, found {type(config)}")
    return config


def _checked_grid(grid: Sequence[int]) -> tuple[int, int, int]:
    sides = tuple(grid)
    if not all(isinstance(side, numbers.Integral) for side in sides):
        raise TypeError(f"grid: expected whole numbers, found {sides}")
    if len(sides) != 3 or min(sides) < 1:
        raise InvalidArgumentError(f"grid: expected (time, height, width), each at least 1, found {sides}")
    return sides


def _check_least(least: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, numbers.Integral):
            raise TypeError(f"{name}: expected a whole number, found {type(size)}")
        if size < least:
            raise InvalidArgumentError(f"{name}: expected at least {least}, found {size}")


def _check_shapes(expected: list[int], **arrays: Array | None) -> None:
    for name, array in arrays.items():
        if array is not None and list(array.shape) != expected:
            raise InvalidArgumentError(f"{name}: expected {expected}, found {list(array.shape)}")


def _checked_weights(weights: MlpWeights) -> _tamias.MlpWeights:
    if not isinstance(weights, MlpWeights):
        raise TypeError(f"weights: expected tamias.MlpWeights, found {type(weights)}")
    return weights._weights


def _run(method: Callable[..., Any], like: Array, *arguments: Any) -> Any:
    """A method of the bindings, in the queue of `like` where that lies on a GPU."""
    stream = stream_of(like)
    if stream:
        arguments = tuple(on_stream(argument, stream) for argument in arguments)
    result = call(method, *arguments, stream)
    if stream and has_own_order(like):
        method.__self__.synchronize()
    return result


class MlpWeights:
    """The weights of an MLP, fc2(act(fc1 x)), kept as references.

    fc1_weight [F, d]; gated: [2F, d], of which the first F rows go through the activation unless gate_first is False.
    fc2_weight [d, F], also a column slice of a wider matrix. Biases [F] (gated [2F]) and [d]. activation: none, relu,
    gelu_tanh, gelu, silu, quick_gelu or tanh. Sparse steps need fc2 transposed, which the first of them makes: as
    much memory again as fc2 has. The arrays must not change after that. They lie where the activations lie.
    """

    def __init__(
        self,
        fc1_weight: Array,
        fc2_weight: Array,
        fc1_bias: Array | None = None,
        fc2_bias: Array | None = None,
        *,
        activation: str = "gelu_tanh",
        gated: bool = False,
        gate_first: bool = True,
    ) -> None:
        arrays = (
            readable("fc1_weight", fc1_weight), readable("fc2_weight", fc2_weight), optional("fc1_bias", fc1_bias),
            optional("fc2_bias", fc2_bias),
        )  # fmt: skip
        stream = stream_of(fc1_weight)
        self._weights = call(
            _tamias.MlpWeights, *(on_stream(array, stream) for array in arrays), activation, gated, gate_first
        )


class SparseSession:
    """What a transformer's attentions and MLPs remember between denoising steps, for one model call per step.

    A generation with classifier-free guidance makes two: one for each call. The loop calls `begin_step` and then the
    model, whose layers call `attention` and `mlp`; each is computed densely, or as a delta against what was kept.

        session = tamias.SparseSession(
            "demo", grid=(1, 32, 32), num_layers=8, num_heads=4, head_dim=64, model_dim=256, prediction_channels=64)
        for step in range(50):
            if session.begin_step(step) == "skip":
                session.cached_prediction(prediction)
            else:
                ...  # for each layer: out = session.attention(layer, q, k, v)
                session.store_prediction(prediction)

    grid: image tokens as (time, height, width). mlp_tokens: rows of each layer's MLP, 0 where it has none to speed up.
    prediction_channels: C, where step caching keeps predictions. dtype: of the activations, "f32" or "bf16", on a GPU
    "f16" or "bf16". device: "cpu", "cuda" or "cuda:1", where all arrays lie. Raises OutOfMemoryError with the plan in
    its message when the state does not fit.
    """

    def __init__(
        self,
        config: SparsityConfig | str | os.PathLike[str],
        *,
        grid: tuple[int, int, int],
        num_layers: int,
        num_heads: int,
        head_dim: int,
        model_dim: int,
        text_tokens: int = 0,
        mlp_dim: int = 0,
        gated_mlp: bool = False,
        mlp_tokens: Sequence[int] | None = None,
        prediction_channels: int = 0,
        batch: int = 1,
        dtype: str = "f32",
        threads: int = 0,
        device: str = "cpu",
    ) -> None:
        config, grid = as_config(config), _checked_grid(grid)
        _check_least(0, text_tokens=text_tokens)
        if mlp_tokens is None and config.mlp.is_enabled:
            mlp_tokens = [grid[0] * grid[1] * grid[2] if mlp_dim else 0] * num_layers
            mlp_dim = mlp_dim or 1
        self._num_layers = num_layers
        self._session = call(
            _tamias.SparseSession, config,
            grid=grid, num_layers=num_layers, num_heads=num_heads, head_dim=head_dim, model_dim=model_dim,
            text_tokens=text_tokens, mlp_dim=mlp_dim, gated_mlp=gated_mlp, mlp_tokens=list(mlp_tokens or []),
            prediction_channels=prediction_channels, batch=batch, dtype=dtype, threads=threads, device=device,
        )  # fmt: skip

    def _layer(self, layer: int) -> int:
        if not 0 <= layer < self._num_layers:
            raise InvalidArgumentError(f"layer: expected 0 to {self._num_layers - 1}, found {layer}")
        return layer

    def begin_step(self, step: int, time: float | None = None) -> str:
        """Starts step 0, 1, 2, ... in turn: "full", "sparse" or "skip". time: its noise level, for extrapolation."""
        return call(self._session.begin_step, step, time)

    def end_step(self) -> None:
        """Ends the step begun last; implied by the next begin_step."""
        self._session.end_step()

    @property
    def is_skipped(self) -> bool:
        """Whether this step is skipped by schedule."""
        return self._session.is_skipped

    def begin_forward(self, modulated_input: Array) -> bool:
        """False: the first block's modulated input [B, N, d] has hardly changed and this call of the model may be
        skipped. Always True unless step_caching.threshold is set."""
        return _run(self._session.begin_forward, modulated_input, readable("modulated_input", modulated_input))

    def attention(
        self, layer: int, query: Array, key: Array, value: Array, scale: float | None = None, out: Array | None = None
    ) -> Array:
        """Joint attention of a layer, text tokens first: query, key, value [B, H, L + N, D] -> the same shape."""
        query = readable("query", query)
        output = empty(query, tuple(query.shape)) if out is None else out
        _run(
            self._session.attention, query, self._layer(layer), query, readable("key", key), readable("value", value),
            float(query.shape[-1]) ** -0.5 if scale is None else scale, output,
        )  # fmt: skip
        return delivered(query, output) if out is None else out

    def has_sparse_mlp(self, layer: int) -> bool:
        """Whether the MLP of this layer is computed as a delta on sparse steps."""
        return self._session.has_sparse_mlp(self._layer(layer))

    def mlp(self, layer: int, weights: MlpWeights, input: Array, out: Array | None = None) -> Array:
        """The MLP of a layer: input [B, M, d] -> [B, M, d]."""
        input = readable("input", input)
        output = empty(input, tuple(input.shape)) if out is None else out
        _run(self._session.mlp, input, self._layer(layer), _checked_weights(weights), input, output)
        return delivered(input, output) if out is None else out

    def store_hidden(self, hidden: Array) -> None:
        """The hidden state [B, N, d] f32 after the last block, for steps that are skipped (reuse: hidden)."""
        _run(self._session.store_hidden, hidden, readable("hidden", hidden))

    def cached_hidden(self, out: Array) -> bool:
        """On a skipped step: the hidden state of the last step that ran, into out [B, N, d] f32; the last layer goes
        on from it. False, and nothing done: predictions are kept."""
        return _run(self._session.cached_hidden, out, readable("out", out))

    def store_prediction(self, prediction: Array) -> None:
        """The model's output [B, N, C] f32, for steps that are skipped (reuse: prediction, extrapolate)."""
        _run(self._session.store_prediction, prediction, readable("prediction", prediction))

    def cached_prediction(self, out: Array) -> None:
        """On a skipped step: what stands in for the model's output, into out [B, N, C] f32."""
        _run(self._session.cached_prediction, out, readable("out", out))

    @property
    def token_order(self) -> np.ndarray:
        """[N] i32: the row-order index (t, h, w) of the token at each position."""
        return np.asarray(self._session.token_order, dtype=np.int32)

    @property
    def state_bytes(self) -> int:
        """Bytes of the state, all allocated at the beginning."""
        return self._session.state_bytes

    @property
    def plan(self) -> dict[str, int]:
        """Bytes by what they are for."""
        return self._session.plan

    def report(self) -> dict[str, Any]:
        """Steps with kind, seconds and sparsity; attention_sparsity and mlp_sparsity over all of them; state_bytes."""
        return self._session.report()


class DeltaAttention:
    """One attention of a loop of your own as a delta: full steps compute everything and keep what the chosen columns
    do not give, sparse steps compute these columns alone.

        attention = tamias.DeltaAttention("demo", grid=(1, 32, 32), num_heads=4, head_dim=64, text_tokens=32)
        out = attention(q, k, v, is_full=step % 10 < 2)

    Nothing can be chosen before the second full step; until then sparse steps are computed as full ones.
    """

    def __init__(
        self,
        config: SparsityConfig | str | os.PathLike[str],
        *,
        grid: tuple[int, int, int],
        num_heads: int,
        head_dim: int,
        text_tokens: int = 0,
        batch: int = 1,
        seed: int = 0,
        dtype: str = "f32",
        threads: int = 0,
        device: str = "cpu",
    ) -> None:
        grid = _checked_grid(grid)
        _check_least(1, num_heads=num_heads, head_dim=head_dim, batch=batch)
        _check_least(0, text_tokens=text_tokens)
        self._shape = [batch, num_heads, text_tokens + grid[0] * grid[1] * grid[2], head_dim]
        self._delta = call(
            _tamias.DeltaAttention, as_config(config), grid, num_heads, head_dim, text_tokens, batch, seed, dtype,
            threads, device,
        )  # fmt: skip

    def __call__(
        self,
        query: Array,
        key: Array,
        value: Array,
        *,
        is_full: bool,
        scale: float | None = None,
        out: Array | None = None,
    ) -> Array:
        """query, key, value [B, H, L + N, D] -> the same shape, text tokens first."""
        inputs = readable("query", query), readable("key", key), readable("value", value)
        _check_shapes(self._shape, query=inputs[0], key=inputs[1], value=inputs[2], out=out)
        output = empty(inputs[0], tuple(inputs[0].shape)) if out is None else out
        scale = self._shape[-1] ** -0.5 if scale is None else scale
        _run(self._delta.run, query, bool(is_full), *inputs, scale, output)
        return delivered(query, output) if out is None else out

    @property
    def token_order(self) -> np.ndarray:
        """[N] i32: the row-order index (t, h, w) of the token at each position."""
        return np.asarray(self._delta.token_order, dtype=np.int32)

    @property
    def sparsity(self) -> float:
        """The share of the query-key pairs that the last call left out."""
        return self._delta.sparsity


class DeltaMlp:
    """One MLP of a loop of your own as a delta: sparse steps recompute the neurons that moved most.

    mlp = tamias.DeltaMlp("demo", tokens=1024, model_dim=256, mlp_dim=1024)
    out = mlp(x, weights, step=step, is_full=step % 10 == 0)
    """

    def __init__(
        self,
        config: SparsityConfig | str | os.PathLike[str],
        *,
        tokens: int,
        model_dim: int,
        mlp_dim: int,
        gated: bool = False,
        batch: int = 1,
        seed: int = 0,
        dtype: str = "f32",
        threads: int = 0,
        device: str = "cpu",
    ) -> None:
        _check_least(1, tokens=tokens, model_dim=model_dim, mlp_dim=mlp_dim, batch=batch)
        self._shape = [batch, tokens, model_dim]
        self._delta = call(
            _tamias.DeltaMlp, as_config(config), tokens, model_dim, mlp_dim, gated, batch, seed, dtype, threads, device
        )

    def __call__(
        self, input: Array, weights: MlpWeights, *, step: int, is_full: bool, out: Array | None = None
    ) -> Array:
        """input [B, M, d] -> [B, M, d]."""
        input = readable("input", input)
        _check_shapes(self._shape, input=input, out=out)
        output = empty(input, tuple(input.shape)) if out is None else out
        _run(self._delta.run, input, step, is_full, _checked_weights(weights), input, output)
        return delivered(input, output) if out is None else out

    @property
    def sparsity(self) -> float:
        """The share of the token-neuron pairs that the last call left out."""
        return self._delta.sparsity
