"""An array of a library that is nobody's, in memory of the emulated GPU (which is the host's): what it hands out says
CUDA, device 0. Its queue is read off what it is asked for."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CPU, CUDA = 1, 2
_PythonApi = ctypes.pythonapi
_PythonApi.PyCapsule_GetPointer.restype = ctypes.c_void_p
_PythonApi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def labelled(capsule: Any, kind: int, index: int = 0) -> Any:
    """A DLPack capsule whose tensor lies on another device, as it says: data, device type, device number come first."""
    address = _PythonApi.PyCapsule_GetPointer(capsule, b"dltensor")
    device = (ctypes.c_int32 * 2).from_address(address + ctypes.sizeof(ctypes.c_void_p))
    device[0], device[1] = kind, index
    return capsule


class _Namespace:
    @staticmethod
    def from_dlpack(array: Any) -> GpuArray:
        """What is on the device, as an array of this library."""
        assert array.__dlpack_device__() == (CUDA, 0)
        capsule = labelled(array.__dlpack__(), CPU)

        class OnHost:
            def __dlpack__(self, **_: Any) -> Any:
                return capsule

            def __dlpack_device__(self) -> tuple[int, int]:
                return CPU, 0

        import torch  # of which NumPy knows no bfloat16

        return GpuArray(torch.from_dlpack(OnHost()))


class GpuArray:
    """Of a tensor of PyTorch in memory of the host."""

    # The queues that arrays were asked to be ready in.
    streams: list[Any] = []

    def __init__(self, host: Any, index: int = 0) -> None:
        self.host, self._index = host, index

    def __dlpack__(self, stream: Any = None, **_: Any) -> Any:
        GpuArray.streams.append(stream)
        return labelled(self.host.__dlpack__(), CUDA, self._index)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self._index

    def __array_namespace__(self) -> type[_Namespace]:
        return _Namespace

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.host.shape)

    @property
    def dtype(self) -> str:
        return str(self.host.dtype)


def numpy_of(array: GpuArray) -> np.ndarray:
    return array.host.float().numpy()
