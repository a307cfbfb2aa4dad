"""Procedural clips with English captions: the data set of the demo's video model.

A clip is one flat object on a plain background that moves, grows, shrinks or turns. Its words are
some of those of `scenes.py`. The place is where the object is halfway; the clip shows the same
course however many frames it has. `sample_clip` draws a clip, `caption` says it in English,
`parse_caption` reads the sentence back, `render` paints its frames or a window of them, `paint` the
same as bytes into memory that is there.

Lengths are shares of the frame's side, y points down, time runs from 0 to 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scenes import BACKGROUNDS as SCENE_BACKGROUNDS
from scenes import COLORS as SCENE_COLORS
from scenes import PLACE_JITTER, PLACES, SIZE_JITTER, Window, signed_distance, turned

COLORS = {
    name: SCENE_COLORS[name]
    for name in ("red", "green", "blue", "yellow", "purple", "orange", "white", "pink")
}
BACKGROUNDS = {name: SCENE_BACKGROUNDS[name] for name in ("grey", "beige", "navy", "teal")}
SHAPES = ("circle", "square", "triangle", "star", "cross")
ROUND_SHAPES = ("circle",)  # nobody sees them turning
DIRECTIONS = {
    "moving left": (-1, 0),
    "moving right": (1, 0),
    "moving up": (0, -1),
    "moving down": (0, 1),
}
MOTIONS = (*DIRECTIONS, "growing", "shrinking", "rotating")
RADIUS = 0.15
REACH = 0.11  # a moving object ends this far from its place
GROWTH = 1.5  # the radius of a growing object goes from RADIUS / GROWTH to RADIUS * GROWTH
TURN = 2.6  # radians, clockwise


@dataclass(frozen=True)
class Clip:
    """An object, what it does, and its background, by the words that the caption uses."""

    color: str
    shape: str
    motion: str
    place: str
    background: str


@dataclass(frozen=True)
class Course:
    """Where the object of one painted clip is: its place and size with their jitter."""

    center: tuple[float, float]
    radius: float
    motion: str

    @staticmethod
    def of(clip: Clip, rng: np.random.Generator | None = None) -> Course:
        """The course of a clip; without `rng` exactly where the caption says."""
        (x, y), radius = PLACES[clip.place], RADIUS
        if rng is not None:
            x += rng.uniform(-PLACE_JITTER, PLACE_JITTER)
            y += rng.uniform(-PLACE_JITTER, PLACE_JITTER)
            radius *= rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
        return Course((x, y), radius, clip.motion)

    def at(self, time: float) -> tuple[float, float, float, float]:
        """Centre x and y, radius, and angle at a time."""
        along = 2 * time - 1
        x, y = self.center
        direction = DIRECTIONS.get(self.motion, (0, 0))
        growth = {"growing": along, "shrinking": -along}.get(self.motion, 0.0)
        angle = TURN * time if self.motion == "rotating" else 0.0
        x, y = x + REACH * along * direction[0], y + REACH * along * direction[1]
        return x, y, self.radius * GROWTH**growth, angle


def sample_clip(rng: np.random.Generator) -> Clip:
    """Draws a clip; round shapes do not turn."""
    shape = str(rng.choice(SHAPES))
    motions = [m for m in MOTIONS if m != "rotating" or shape not in ROUND_SHAPES]
    return Clip(
        color=str(rng.choice(list(COLORS))),
        shape=shape,
        motion=str(rng.choice(motions)),
        place=list(PLACES)[rng.integers(len(PLACES))],
        background=str(rng.choice(list(BACKGROUNDS))),
    )


def caption(clip: Clip) -> str:
    """The English sentence for a clip."""
    return (
        f"a {clip.color} {clip.shape} {clip.motion} at the {clip.place}"
        f" on a {clip.background} background"
    )


def parse_caption(text: str) -> Clip:
    """The clip that a caption describes; the inverse of `caption`. ValueError when it is none."""

    def one_of(words: object) -> str:
        return "(" + "|".join(sorted(words, key=len, reverse=True)) + ")"

    pattern = (
        f"a {one_of(COLORS)} {one_of(SHAPES)} {one_of(MOTIONS)} at the {one_of(PLACES)}"
        f" on a {one_of(BACKGROUNDS)} background"
    )
    match = re.fullmatch(pattern, text.strip().lower())
    if match is None:
        raise ValueError(f"not a caption of a clip: {text!r}")
    return Clip(*match.groups())


def frame_times(frames: int) -> np.ndarray:
    """The times of the frames of a clip, the first 0, the last 1."""
    return np.linspace(0, 1, frames)


def render(
    clip: Clip,
    side: int,
    times: np.ndarray,
    rng: np.random.Generator | None = None,
    window: Window | None = None,
) -> np.ndarray:
    """Paints a clip of side x side pixels at `times`, or only a window of it.

    Returns [frames, height, width, 3], float32, 0 to 1. `rng` draws the jitter of place and size.
    """
    window = window or Window(0, 0, side, side)
    images = np.empty((len(times), window.height, window.width, 3), np.float32)
    images[:] = _tone(SCENE_BACKGROUNDS[clip.background])
    for image, (rows, columns, pixels) in zip(images, _boxes(clip, side, times, rng, window)):
        image[rows, columns] = pixels
    return images


def paint(
    clip: Clip, side: int, times: np.ndarray, rng: np.random.Generator | None, out: np.ndarray
) -> None:
    """Paints a clip as bytes into `out` [frames, side, side, 3]: what `render` gives, rounded."""
    out[:] = np.round(_tone(SCENE_BACKGROUNDS[clip.background]) * 255)
    whole = Window(0, 0, side, side)
    for image, (rows, columns, pixels) in zip(out, _boxes(clip, side, times, rng, whole)):
        image[rows, columns] = np.round(pixels * 255)


def _tone(color: tuple[int, int, int]) -> np.ndarray:
    return np.array(color, np.float32) / 255


def _boxes(
    clip: Clip, side: int, times: np.ndarray, rng: np.random.Generator | None, window: Window
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """For every frame rows and columns of the window that the object may touch, and the pixels."""
    x = (np.arange(window.width, dtype=np.float32) + window.left + 0.5) / side
    y = (np.arange(window.height, dtype=np.float32) + window.top + 0.5) / side
    course = Course.of(clip, rng)
    ground, color = _tone(SCENE_BACKGROUNDS[clip.background]), _tone(SCENE_COLORS[clip.color])
    for time in times:
        center_x, center_y, radius, angle = course.at(float(time))
        reach = 1.3 * radius + 2 / side  # a star's tip is at 1, a square's corner at 1.2
        columns = slice(*np.searchsorted(x, (center_x - reach, center_x + reach)))
        rows = slice(*np.searchsorted(y, (center_y - reach, center_y + reach)))
        dx, dy = turned(x[None, columns] - center_x, y[rows, None] - center_y, -angle)
        alpha = np.clip(0.5 - signed_distance(clip.shape, dx, dy, radius) * side, 0, 1)[..., None]
        yield rows, columns, ground + alpha * (color - ground)
