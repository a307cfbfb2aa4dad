"""Judging of sampled pictures and films by the detectors of tools/quality, in processes of its own.

Forked before torch is imported, as the workers are; verdicts and shares are those of
prompt_accuracy.py and motion_accuracy.py.
"""

from __future__ import annotations

import io
import multiprocessing
import sys
from collections.abc import Sequence
from multiprocessing.pool import AsyncResult
from pathlib import Path

import numpy as np
from gpu.workers import die_with_parent
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "quality"))

import motion_accuracy  # noqa: E402
import prompt_accuracy  # noqa: E402
from detect import judge  # noqa: E402
from detect_motion import judge_film  # noqa: E402

SHEET_FRAMES = 7
SHEET_BYTES = 5 * 2**20


class Judges:
    """So many processes that compare samples of a kind ("picture" or "film") with their prompts."""

    def __init__(self, kind: str, count: int) -> None:
        self._judge = judge if kind == "picture" else judge_film
        measured = prompt_accuracy if kind == "picture" else motion_accuracy
        self._summarise = measured.summarise
        context = multiprocessing.get_context("fork")
        self._pool = context.Pool(count, initializer=die_with_parent)

    def submit(self, samples: Sequence[np.ndarray], prompts: Sequence[str]) -> list[AsyncResult]:
        """Begins to judge samples; results are verdicts."""
        return [self._pool.apply_async(self._judge, pair) for pair in zip(samples, prompts)]

    def shares(self, verdicts: Sequence) -> dict[str, float]:
        """Shares over all verdicts, to three digits, and their number."""
        shares = {k: round(v, 3) for k, v in self._summarise(verdicts).items()}
        return shares | {"prompts": len(verdicts)}

    def stop(self) -> None:
        """Ends the processes."""
        self._pool.terminate()


def make_sheet(samples: Sequence[np.ndarray], columns: int) -> bytes:
    """A PNG of pictures in rows of so many, or of films as strips of seven frames.

    Smaller than they are where it would be too large to look at from afar.
    """
    images = [_strip(s) if s.ndim == 4 else s for s in samples]
    images += [np.full_like(images[0], 255)] * (-len(images) % columns)
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images), columns)]
    sheet = Image.fromarray(np.concatenate(rows, 0))
    while True:
        buffer = io.BytesIO()
        sheet.save(buffer, format="PNG", compress_level=4)
        if buffer.tell() <= SHEET_BYTES:
            return buffer.getvalue()
        size = tuple(3 * length // 4 for length in sheet.size)
        sheet = sheet.resize(size, Image.Resampling.LANCZOS)


def _strip(film: np.ndarray) -> np.ndarray:
    shown = np.linspace(0, len(film) - 1, SHEET_FRAMES).round().astype(int)
    return np.concatenate(list(film[shown]), 1)
