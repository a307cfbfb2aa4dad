"""Arrays of any library that speaks DLPack: checked on the way in, made for results.

An array is taken as it lies in memory, of the host or of a CUDA GPU, never copied; results are arrays of the library
that the (first) input came from, in the same memory. Work on a GPU goes to the queue (CUDA stream) that is current in
that library.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tamias import _tamias
from tamias._tamias import InvalidArgumentError, UnsupportedError

# Anything with __dlpack__: numpy.ndarray, torch.Tensor, jax.Array, cupy.ndarray.
Array = Any
_DTYPES = ("float32", "float16", "bfloat16", "int32", "int64", "uint8")
_SHORT = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int32": "i32", "int64": "i64", "uint8": "u8"}
# DLPack's numbers: of CUDA among the kinds of devices, and of the queue that is everybody's.
_CUDA = 2
_DEFAULT_STREAM = 1


def readable(name: str, array: Array) -> Array:
    """The array as the bindings read it; refuses what is no array, and gradients, which do not pass through."""
    if not hasattr(array, "__dlpack__"):
        raise TypeError(f"{name}: expected an array (NumPy, PyTorch, anything with __dlpack__), found {type(array)}")
    if dtype_name(array) not in _DTYPES:
        raise UnsupportedError(f"{name}: expected {', '.join(_DTYPES[:-1])} or uint8, found {dtype_name(array)}")
    if getattr(array, "requires_grad", False):
        import torch

        if torch.is_grad_enabled():
            raise InvalidArgumentError(
                f"{name}: no gradients pass through Tamias: call it under torch.no_grad() or inference_mode()"
            )
        return array.detach()
    return array


def optional(name: str, array: Array | None) -> Array | None:
    return None if array is None else readable(name, array)


def dtype_name(array: Array) -> str:
    """ "float32", "bfloat16", "int32": the element type by the name that all libraries give it."""
    return str(array.dtype).rsplit(".", 1)[-1]


def context_dtype(array: Array) -> str:
    """The type of activations that a context needs for this input: that of the input, where it is one of 16 bits; else
    f32, on a GPU, whose activations have 16 bits, bf16."""
    name = dtype_name(array)
    if name == "bfloat16":
        return "bf16"
    if gpu_of(array) is None:
        return "f32"
    return "f16" if name == "float16" else "bf16"


@lru_cache(maxsize=64)
def _library_of(kind: type) -> str:
    return kind.__module__.split(".")[0]


def _library(array: Array) -> str:
    return _library_of(type(array))


def gpu_of(array: Array) -> int | None:
    """The number of the GPU that the array lies on; None: it lies elsewhere."""
    if isinstance(array, np.ndarray):
        return None
    if _library(array) == "torch":
        return array.get_device() if array.is_cuda else None
    kind, index = array.__dlpack_device__()
    return index if kind == _CUDA else None


def device_of(array: Array) -> str:
    """Where a context for this input computes: "cpu", "cuda:0"."""
    gpu = gpu_of(array)
    return "cpu" if gpu is None else f"cuda:{gpu}"


def stream_of(array: Array) -> int:
    """The queue of the array's GPU that is current in its library, by DLPack's number; 0 without a GPU."""
    if gpu_of(array) is None:
        return 0
    if _library(array) == "torch":
        import torch

        return torch.cuda.current_stream(array.device).cuda_stream or _DEFAULT_STREAM
    if _library(array) == "cupy":
        import cupy

        return cupy.cuda.get_current_stream().ptr or _DEFAULT_STREAM
    return _DEFAULT_STREAM


def has_own_order(array: Array) -> bool:
    """Whether its library goes on in a queue of a GPU that stream_of does not know: results must be there first."""
    return gpu_of(array) is not None and _library(array) not in ("torch", "cupy")


class _OnStream:
    """An array of a GPU as the bindings take it: its library makes what is in it ready in a queue."""

    def __init__(self, array: Array, stream: int) -> None:
        self._array, self._stream = array, stream

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(stream=self._stream, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def on_stream(argument: Any, stream: int) -> Any:
    """An argument of the bindings, for work in this queue; what is no array of a GPU as it is."""
    if stream == 0 or not hasattr(argument, "__dlpack__") or gpu_of(argument) is None:
        return argument
    return _OnStream(argument, stream)


def empty(like: Array, shape: tuple[int, ...], dtype: str | None = None) -> Array:
    """An uninitialised contiguous array where `like` lies, of its element type unless one is named: of its library, or
    one that `delivered` hands to that."""
    name = dtype or dtype_name(like)
    if _library(like) == "torch":
        import torch

        return torch.empty(shape, dtype=getattr(torch, name), device=like.device)
    gpu = gpu_of(like)
    if gpu is not None:
        return _tamias.empty_on_gpu(gpu, shape, _SHORT[name])
    return np.empty(shape, dtype=name)


def delivered(like: Array, array: Array) -> Array:
    """The result in the library of `like`, without a copy where that library takes DLPack."""
    is_ours = isinstance(array, np.ndarray) or _library(array) == "nanobind"
    if is_ours and not isinstance(like, np.ndarray):
        namespace = getattr(like, "__array_namespace__", None)
        if namespace is not None:
            return namespace().from_dlpack(array)
    return array
