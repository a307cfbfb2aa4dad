"""Pictures and films as files, and how alike two pictures are."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from tamias import _tamias
from tamias.arrays import Array, readable
from tamias.calls import call

__all__ = ["encode_image", "psnr", "read_image", "ssim", "write_image", "write_video"]


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """A PNG, JPEG or WebP as [height, width, 3] u8."""
    return call(_tamias.read_image, path)


def write_image(
    path: str | os.PathLike[str], image: Array, text: Mapping[str, str] | None = None, quality: int = 90
) -> None:
    """Writes [height, width, 3] u8 as .png, .jpg or .webp, complete or not at all.

    text: goes into the file (Pipeline.text). quality: 1 to 100, of JPEG and WebP.
    """
    call(_tamias.write_image, path, readable("image", image), text or {}, quality)


def encode_image(
    format: str, image: Array, text: Mapping[str, str] | None = None, quality: int = 90
) -> bytes:
    """The bytes of such a file; format: "png", "jpeg" or "webp"."""
    return call(_tamias.encode_image, format, readable("image", image), text or {}, quality)


def write_video(
    path: str | os.PathLike[str], frames: Array, fps: float, text: Mapping[str, str] | None = None
) -> None:
    """Writes [frames, height, width, 3] u8 as .mp4 or animated .webp, complete or not at all."""
    call(_tamias.write_video, path, readable("frames", frames), fps, text or {})


def psnr(a: Array, b: Array) -> float:
    """Peak signal-to-noise ratio in dB of two pictures [height, width, 3] u8; inf when equal."""
    return call(_tamias.psnr, readable("a", a), readable("b", b))


def ssim(a: Array, b: Array) -> float:
    """Structural similarity (Wang et al. 2004) of the luma of two pictures [height, width, 3] u8."""
    return call(_tamias.ssim, readable("a", a), readable("b", b))
