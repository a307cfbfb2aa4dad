"""Arrays of any library that speaks DLPack: checked on the way in, made for results.

An array is taken as it lies in memory, never copied; results are arrays of the library that the (first) input came
from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tamias._tamias import InvalidArgumentError, UnsupportedError

# Anything with __dlpack__: numpy.ndarray, torch.Tensor, jax.Array, cupy.ndarray.
Array = Any
_DTYPES = ("float32", "float16", "bfloat16", "int32", "int64", "uint8")


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
    """"float32", "bfloat16", "int32": the element type by the name that all libraries give it."""
    return str(array.dtype).rsplit(".", 1)[-1]


def context_dtype(array: Array) -> str:
    """The type of activations that a context needs for this input: "bf16" for bfloat16, else "f32"."""
    return "bf16" if dtype_name(array) == "bfloat16" else "f32"


def empty(like: Array, shape: tuple[int, ...], dtype: str | None = None) -> Array:
    """An uninitialised contiguous array of the library of `like`, of its element type unless one is named."""
    name = dtype or dtype_name(like)
    if type(like).__module__.split(".")[0] == "torch":
        import torch

        return torch.empty(shape, dtype=getattr(torch, name), device=like.device)
    return np.empty(shape, dtype=name)


def zeros(like: Array, shape: tuple[int, ...], dtype: str) -> Array:
    array = empty(like, shape, dtype)
    array[...] = 0
    return array


def delivered(like: Array, array: Array) -> Array:
    """The result in the library of `like`, without a copy where that library takes DLPack."""
    if isinstance(array, np.ndarray) and not isinstance(like, np.ndarray):
        namespace = getattr(like, "__array_namespace__", None)
        if namespace is not None:
            return namespace().from_dlpack(array)
    return array
