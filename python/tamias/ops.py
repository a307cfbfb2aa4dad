"""The operations of Tamias on arrays: dense and column-sparse attention, their selection, the sparse MLP, and what a
transformer layer needs beside them.

Inputs are arrays of NumPy, PyTorch or any library that speaks DLPack, in memory of the host or of a CUDA GPU, with any
strides whose last is 1; they are not copied. Results are new arrays of the first input's library and device unless
`out` is given. Element types on the CPU are float32, or bfloat16 for all activations of a call (the arithmetic is then
bf16 where the processor has it); on a GPU activations are float16 or bfloat16, and the work goes to the current stream
of the input's library. Infinities and NaN in queries and keys are not passed on to the result. A `Context` holds the
device, the number of threads and scratch memory; without one a call uses that of its Python thread for the first
input's device, with one thread for each usable CPU.

Symbols: B batch, H heads, Nq queries, Nk keys, D head dimension, G = ceil(N / group_size) groups of rows.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> q, k, v = (rng.standard_normal((1, 2, 96, 32), dtype=np.float32) for _ in range(3))
>>> q, k[:, :, :8] = q + 1, k[:, :, :8] + 1  # eight keys that all queries look at
>>> dense, lse = dense_attention(q, k, v, with_log_sum_exp=True)
>>> dense.shape, lse.shape
((1, 2, 96, 32), (1, 2, 96))

The columns that draw the most attention from each group of 48 queries, and attention to these alone:

>>> _, _, sums = dense_attention_column_sums(q, k, v, lse, group_size=48)
>>> mask = top_k_mask(sums.reshape(-1, 96), 24)
>>> indices, counts = mask_to_indices(mask, 96, capacity=24)
>>> sparse = column_sparse_attention(
...     q, k, v, indices.reshape(1, 2, 2, 24), counts.reshape(1, 2, 2), group_size=48)
>>> bool(np.linalg.norm(sparse - dense) < 0.1 * np.linalg.norm(dense))
True
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tamias import _tamias
from tamias.arrays import (
    Array,
    context_dtype,
    delivered,
    device_of,
    empty,
    has_own_order,
    on_stream,
    optional,
    readable,
    stream_of,
)
from tamias.calls import call
from tamias.sparsity import MlpWeights, _checked_weights

__all__ = [
    "Context",
    "approximate_top_k_mask",
    "block_mean",
    "column_sparse_attention",
    "column_sparse_mlp",
    "count_mask",
    "dense_attention",
    "dense_attention_column_sums",
    "layer_norm",
    "linear",
    "mask_to_indices",
    "random_mask",
    "rms_norm",
    "rms_norm_rotary",
    "store_activations",
    "top_k_mask",
]


class Context:
    """With what an operation runs: the CPU threads (0: one for each usable CPU), the type of the activations, the
    device and scratch memory, which it keeps. Threads that share one wait for each other.

    dtype: "f32" or "bf16" on the CPU, "f16" or "bf16" on a GPU. device: "cpu", "cuda" or "cuda:1".
    """

    def __init__(self, threads: int = 0, dtype: str = "f32", device: str = "cpu") -> None:
        self._context = call(_tamias.Context, threads, dtype, device)

    @property
    def threads(self) -> int:
        return self._context.threads

    @property
    def dtype(self) -> str:
        return self._context.dtype

    @property
    def device(self) -> str:
        return self._context.device

    def synchronize(self) -> None:
        """Waits for what was enqueued on a GPU."""
        self._context.synchronize()


# Asking what the process may use of the machine reads files of the system: each thread of Python asks once.
_of_thread = threading.local()


def _context(context: Context | None, like: Array) -> Context:
    if context is not None:
        if not isinstance(context, Context):
            raise TypeError(f"context: expected tamias.ops.Context, found {type(context)}")
        return context
    kept = _of_thread.__dict__
    of = context_dtype(like), device_of(like)
    if of not in kept:
        kept[of] = Context(0, *of)
    return kept[of]


def _run(function: Callable[..., Any], context: Context, like: Array, *arguments: Any) -> None:
    """An operation of the bindings, in the queue of `like` where that lies on a GPU."""
    stream = stream_of(like)
    if stream:
        arguments = tuple(on_stream(argument, stream) for argument in arguments)
    call(function, context._context, stream, *arguments)
    if stream and has_own_order(like):
        context.synchronize()


def _scale(scale: float | None, query: Array) -> float:
    return float(query.shape[-1]) ** -0.5 if scale is None else scale


def _attention_inputs(query: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
    inputs = readable("query", query), readable("key", key), readable("value", value)
    for name, array in zip(("query", "key", "value"), inputs):
        if len(array.shape) != 4:
            raise _tamias.InvalidArgumentError(
                f"{name}: expected [batch, heads, tokens, head_dim], found {list(array.shape)}"
            )
        if 0 in array.shape:
            raise _tamias.InvalidArgumentError(f"{name}: expected no empty axis, found {list(array.shape)}")
    return inputs


def _attention_outputs(
    query: Array, out: Array | None, with_log_sum_exp: bool, dense_rows: int = 0
) -> tuple[Array, Array | None]:
    """What an operation writes: the output, `out` where it is given, and the log-sum-exp, which is not of the dense
    rows, where it is wanted."""
    output = empty(query, tuple(query.shape)) if out is None else out
    batch, heads, rows = query.shape[:3]
    lse = empty(query, (batch, heads, rows - dense_rows), "float32") if with_log_sum_exp else None
    return output, lse


def _attention_result(query: Array, out: Array | None, output: Array, lse: Array | None) -> Array:
    """What the caller gets of these."""
    output = delivered(query, output) if out is None else out
    return output if lse is None else (output, delivered(query, lse))


def dense_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    with_log_sum_exp: bool = False,
    out: Array | None = None,
    context: Context | None = None,
) -> Array:
    """softmax(scale q k^T) v.

    query [B, H, Nq, D], key and value [B, H, Nk, D] -> [B, H, Nq, D]; scale: 1 / sqrt(D) unless given. causal: query i
    sees keys j <= i + Nk - Nq. with_log_sum_exp: also the log-sum-exp of each row's scores, [B, H, Nq] f32.
    """
    query, key, value = _attention_inputs(query, key, value)
    output, lse = _attention_outputs(query, out, with_log_sum_exp)
    context = _context(context, query)
    _run(
        _tamias.dense_attention, context, query, query, key, value, _scale(scale, query), causal, output, lse
    )
    return _attention_result(query, out, output, lse)


def dense_attention_column_sums(
    query: Array,
    key: Array,
    value: Array,
    previous_log_sum_exp: Array,
    *,
    group_size: int = 192,
    scale: float | None = None,
    causal: bool = False,
    context: Context | None = None,
) -> tuple[Array, Array, Array]:
    """Dense attention, its log-sum-exp, and how much attention each key column draws from each group of queries.

    previous_log_sum_exp [B, H, Nq] f32, from an earlier step (or this one). Returns the output [B, H, Nq, D], the
    log-sum-exp [B, H, Nq] and the sums [B, H, G, Nk] f32: over the rows i of a group, exp(score_ij - previous_i).
    """
    query, key, value = _attention_inputs(query, key, value)
    batch, heads, rows, _ = query.shape
    if group_size < 1:
        raise _tamias.InvalidArgumentError(f"group_size: expected at least 1, found {group_size}")
    output = empty(query, tuple(query.shape))
    lse = empty(query, (batch, heads, rows), "float32")
    sums = empty(query, (batch, heads, -(-rows // group_size), key.shape[2]), "float32")
    context = _context(context, query)
    _run(
        _tamias.dense_attention_column_sums, context, query, query, key, value, _scale(scale, query), causal,
        readable("previous_log_sum_exp", previous_log_sum_exp), group_size, output, lse, sums,
    )  # fmt: skip
    return tuple(delivered(query, result) for result in (output, lse, sums))


def column_sparse_attention(
    query: Array,
    key: Array,
    value: Array,
    indices: Array,
    counts: Array,
    *,
    group_size: int = 192,
    dense_rows: int = 0,
    scale: float | None = None,
    causal: bool = False,
    base: Array | None = None,
    base_log_sum_exp: Array | None = None,
    sparse_scale: float = 1,
    with_log_sum_exp: bool = False,
    out: Array | None = None,
    context: Context | None = None,
) -> Array:
    """Attention of each group of queries to its own list of key columns, A_S.

    indices [B, H, G, capacity] i32, ascending within a group; counts [B, H, G] i32. Without a base the output is
    sparse_scale * A_S. With a base [B, H, Nq, D] it is base + sparse_scale * A_S, and with the base's log-sum-exp
    [B, H, Nq] the two are merged as attention to two parts of the keys (sparse_scale must be 1).

    The first dense_rows queries come before the groups and attend to every key, whatever the base: text tokens. Then
    G, base and log-sum-exps are of the Nq - dense_rows queries behind them.
    """
    query, key, value = _attention_inputs(query, key, value)
    if not 0 <= dense_rows <= query.shape[2]:
        raise _tamias.InvalidArgumentError(f"dense_rows: expected 0 to {query.shape[2]}, found {dense_rows}")
    output, lse = _attention_outputs(query, out, with_log_sum_exp, dense_rows)
    context = _context(context, query)
    _run(
        _tamias.column_sparse_attention, context, query, query, key, value, _scale(scale, query), causal,
        readable("indices", indices), readable("counts", counts), group_size, dense_rows, optional("base", base),
        optional("base_log_sum_exp", base_log_sum_exp), sparse_scale, output, lse,
    )  # fmt: skip
    return _attention_result(query, out, output, lse)


def _mask_like(context: Context, scores: Array) -> Array:
    """A mask of zeros for scores [R, N]."""
    rows, columns = scores.shape
    mask = empty(scores, (rows, -(-columns // 8)), "uint8")
    _run(_tamias.zero, context, scores, mask)
    return mask


def _checked_scores(scores: Array) -> Array:
    scores = readable("scores", scores)
    if len(scores.shape) != 2:
        raise _tamias.InvalidArgumentError(f"scores: expected [rows, columns], found {list(scores.shape)}")
    return scores


def top_k_mask(scores: Array, k: int, *, context: Context | None = None) -> Array:
    """Bits of the k largest scores of each row: scores [R, N] f32 -> [R, ceil(N / 8)] u8, bit j % 8 of byte j / 8."""
    scores = _checked_scores(scores)
    context = _context(context, scores)
    mask = _mask_like(context, scores)
    _run(_tamias.top_k_mask, context, scores, scores, k, mask)
    return delivered(scores, mask)


def approximate_top_k_mask(
    scores: Array, k: int, *, sample_size: int = 1024, seed: int = 0, context: Context | None = None
) -> Array:
    """As top_k_mask with about k bits: all scores above a quantile that is estimated from a random sample."""
    scores = _checked_scores(scores)
    context = _context(context, scores)
    mask = _mask_like(context, scores)
    _run(_tamias.approximate_top_k_mask, context, scores, scores, k, sample_size, seed, mask)
    return delivered(scores, mask)


def random_mask(
    mask: Array, columns: int, probability: float, *, seed: int = 0, context: Context | None = None
) -> Array:
    """Sets each bit of mask [R, ceil(columns / 8)] u8, in place, with this probability; returns it."""
    mask = readable("mask", mask)
    context = _context(context, mask)
    _run(_tamias.random_mask, context, mask, probability, seed, mask, columns)
    return mask


def count_mask(mask: Array, *, context: Context | None = None) -> Array:
    """How many bits each row of mask [R, M] u8 has: [R] i32."""
    mask = readable("mask", mask)
    counts = empty(mask, (mask.shape[0],), "int32")
    context = _context(context, mask)
    _run(_tamias.count_mask, context, mask, mask, counts)
    return delivered(mask, counts)


def mask_to_indices(
    mask: Array, columns: int, *, capacity: int, context: Context | None = None
) -> tuple[Array, Array]:
    """The columns of each row's bits, ascending: mask [R, ceil(columns / 8)] u8 -> indices [R, capacity], counts [R] i32.

    Indices beyond a row's count are 0. Raises InvalidArgumentError for a row with more bits than the capacity.
    """
    mask = readable("mask", mask)
    indices = empty(mask, (mask.shape[0], capacity), "int32")
    counts = empty(mask, (mask.shape[0],), "int32")
    context = _context(context, mask)
    _run(_tamias.zero, context, mask, indices)
    _run(_tamias.mask_to_indices, context, mask, mask, columns, indices, counts)
    return delivered(mask, indices), delivered(mask, counts)


def block_mean(input: Array, group_size: int, *, context: Context | None = None) -> Array:
    """Means over groups of consecutive rows: [B, N, d] -> [B, G, d]."""
    input = readable("input", input)
    if group_size < 1 or len(input.shape) != 3:
        raise _tamias.InvalidArgumentError(
            f"block_mean: expected [batch, tokens, d] and groups of at least 1, found {list(input.shape)} "
            f"and {group_size}"
        )
    batch, rows, width = input.shape
    output = empty(input, (batch, -(-rows // group_size), width))
    context = _context(context, input)
    _run(_tamias.block_mean, context, input, input, group_size, output)
    return delivered(input, output)


def store_activations(activations: Array, group_size: int = 128, *, context: Context | None = None) -> Array:
    """The cache that sparse MLP steps move: activations [B, N, F] -> [B, G, F, group_size], tokens along the last axis."""
    activations = readable("activations", activations)
    batch, rows, neurons = activations.shape
    cached = empty(activations, (batch, -(-rows // group_size), neurons, group_size))
    context = _context(context, activations)
    _run(_tamias.store_activations, context, activations, activations, cached)
    return delivered(activations, cached)


def column_sparse_mlp(
    input: Array,
    weights: MlpWeights,
    indices: Array,
    counts: Array,
    cached_activations: Array,
    output_cache: Array,
    *,
    group_size: int = 128,
    is_fp8: bool = False,
    context: Context | None = None,
) -> Array:
    """Recomputes the chosen neurons of each group of tokens and moves the output by the difference.

    input [B, N, d]; indices [B, G, capacity] and counts [B, G] i32; cached_activations [B, G, F, group_size] and
    output_cache [B, N, d] are updated in place; the latter is returned. is_fp8: input and first matrix are rounded to
    8-bit floats (e4m3), each row with a power of two for its scale; faster on GPUs of compute capability 9.0 alone.
    """
    input = readable("input", input)
    context = _context(context, input)
    _run(
        _tamias.column_sparse_mlp, context, input, input, _checked_weights(weights), readable("indices", indices),
        readable("counts", counts), group_size, is_fp8, readable("cached_activations", cached_activations),
        readable("output_cache", output_cache),
    )  # fmt: skip
    return output_cache


def linear(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    activation: str = "none",
    context: Context | None = None,
) -> Array:
    """act(input weight^T + bias): input [..., K], weight [N, K], bias [N] -> [..., N]."""
    input, weight = readable("input", input), readable("weight", weight)
    output = empty(input, (*input.shape[:-1], weight.shape[0]))
    context = _context(context, input)
    _run(_tamias.linear, context, input, input, weight, optional("bias", bias), activation, output)
    return delivered(input, output)


def layer_norm(
    input: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float = 1e-6,
    context: Context | None = None,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis; weight and bias [d]."""
    input = readable("input", input)
    output = empty(input, tuple(input.shape))
    context = _context(context, input)
    _run(
        _tamias.layer_norm,
        context,
        input,
        input,
        optional("weight", weight),
        optional("bias", bias),
        epsilon,
        output,
    )
    return delivered(input, output)


def rms_norm(
    input: Array, weight: Array | None = None, *, epsilon: float = 1e-6, context: Context | None = None
) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis; weight [d]."""
    input = readable("input", input)
    output = empty(input, tuple(input.shape))
    context = _context(context, input)
    _run(_tamias.rms_norm, context, input, input, optional("weight", weight), epsilon, output)
    return delivered(input, output)


def rms_norm_rotary(
    input: Array,
    norm_weight: Array | None = None,
    cosine: Array | None = None,
    sine: Array | None = None,
    *,
    epsilon: float = 1e-6,
    context: Context | None = None,
) -> Array:
    """RMS norm over each head where there is a weight, then rotary position embedding on adjacent pairs.

    input [B, H, N, D]; norm_weight [D]; cosine and sine [N, D] or [H, N, D], each angle's value repeated for both
    members of its pair (as diffusers has them).
    """
    input = readable("input", input)
    output = empty(input, tuple(input.shape))
    context = _context(context, input)
    _run(
        _tamias.rms_norm_rotary, context, input, input, optional("norm_weight", norm_weight), epsilon,
        optional("cosine", cosine),
        optional("sine", sine), output,
    )  # fmt: skip
    return delivered(input, output)
