"""What workers draw: captioned pictures or films of any side, as bytes into memory that is there.

Captions that are held out for judging are never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from clips import caption as clip_caption
from clips import frame_times, paint, parse_caption, sample_clip
from scenes import caption, render, sample_scene

FILM_FRAMES = 33

Tokenize = Callable[[list[str]], tuple[np.ndarray, ...]]


class Source(Protocol):
    """What `Workers` ask of pictures and films."""

    tokenize: Tokenize
    slot_bytes: int

    def shape(self, side: int) -> tuple[int, ...]:
        """Of one sample's bytes."""

    def chunk(self, side: int) -> int:
        """Samples of a side that fill a slot; not too many, so that a chunk is soon drawn."""

    def draw(self, rng: np.random.Generator, out: np.ndarray) -> str:
        """Draws a sample into `out`; returns its caption."""


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, one a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]


class PictureSource:
    """Scenes; `counts` are the shares of scenes with 1, 2, 3 objects."""

    slot_bytes = 8 * 512 * 512 * 3

    def __init__(
        self, tokenize: Tokenize, held_out: frozenset[str], counts: tuple[float, ...]
    ) -> None:
        self.tokenize, self._held_out, self._counts = tokenize, held_out, counts

    def shape(self, side: int) -> tuple[int, ...]:
        return side, side, 3

    def chunk(self, side: int) -> int:
        return _chunk(self, side, 256)

    def draw(self, rng: np.random.Generator, out: np.ndarray) -> str:
        while caption(scene := sample_scene(rng, self._counts)) in self._held_out:
            pass
        out[:] = np.round(render(scene, len(out), rng) * 255)
        return caption(scene)


class FilmSource:
    """Clips of 33 frames."""

    slot_bytes = 4 * FILM_FRAMES * 128 * 128 * 3

    def __init__(self, tokenize: Tokenize, held_out: frozenset[str]) -> None:
        self.tokenize, self._held_out = tokenize, held_out
        self._times = frame_times(FILM_FRAMES)

    def shape(self, side: int) -> tuple[int, ...]:
        return FILM_FRAMES, side, side, 3

    def chunk(self, side: int) -> int:
        return _chunk(self, side, 64)

    def draw(self, rng: np.random.Generator, out: np.ndarray) -> str:
        while clip_caption(clip := sample_clip(rng)) in self._held_out:
            pass
        paint(clip, out.shape[1], self._times, rng, out)
        return clip_caption(clip)


def _chunk(source: Source, side: int, most: int) -> int:
    return max(1, min(most, source.slot_bytes // math.prod(source.shape(side))))


def held_out_films(prompts: list[str], side: int) -> np.ndarray:
    """Clips of prompts, always the same, to measure the VAE on: [prompts, 33, side, side, 3]."""
    rng = np.random.default_rng(77)
    films = np.empty((len(prompts), FILM_FRAMES, side, side, 3), np.uint8)
    for film, prompt in zip(films, prompts, strict=True):
        paint(parse_caption(prompt), side, frame_times(FILM_FRAMES), rng, film)
    return films
