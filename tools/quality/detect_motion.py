"""Finds the object of a film, follows it, and compares it with what the caption promised.

Each looked-at frame goes through the picture detector (detect.py), which knows the background's name
only. The largest part of the foreground is the object. Its centre, radius and angle over time say
what it does: the motion with the largest share of the promised course's length is the motion's name.
Shape and angle are those whose outline overlaps best, its colour the one found most often.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from detect import MIN_OVERLAP, connected_parts, find_foreground, fit_shape, load_picture
from detect import nearest_color

from clips import DIRECTIONS, GROWTH, REACH, ROUND_SHAPES, SHAPES, TURN, parse_caption
from scenes import PLACES, Scene

FRAMES_LOOKED_AT = 9
MIN_SEEN = 0.7  # share of the frames looked at in which there has to be an object
MIN_COURSE = 0.4  # share of a motion's full course below which it is none
ANGLE_STEP = np.pi / 18
# A turn by this angle changes nothing.
SYMMETRY = {
    "circle": ANGLE_STEP,
    "square": np.pi / 2,
    "triangle": 2 * np.pi / 3,
    "star": 2 * np.pi / 5,
    "cross": np.pi / 2,
}
STILL = "standing still"


@dataclass(frozen=True)
class Sighting:
    """The object in one frame: time, centre, radius, and the outline that fits best."""

    time: float
    x: float
    y: float
    radius: float
    color: str
    shape: str | None
    angle: float
    others: int


@dataclass(frozen=True)
class FoundClip:
    """A film's object, described as captions do."""

    color: str
    shape: str | None
    motion: str
    place: str


@dataclass(frozen=True)
class FilmVerdict:
    """What became of a caption."""

    found: bool
    color: bool = False
    shape: bool = False
    place: bool = False
    motion: bool = False
    alone: bool = False
    seen: FoundClip | None = None

    @property
    def right(self) -> bool:
        return self.color and self.shape and self.place and self.motion and self.alone

    def as_json(self) -> dict:
        """Plain values for a report."""
        return asdict(self) | {"right": self.right}


def judge_film(frames: np.ndarray, prompt: str) -> FilmVerdict:
    """Compares a film [frames, side, side, 3] (8-bit or 0..1) with its caption."""
    clip = parse_caption(prompt)
    sightings = follow(frames, clip.background)
    if len(sightings) < MIN_SEEN * min(FRAMES_LOOKED_AT, len(frames)):
        return FilmVerdict(found=False)
    seen = describe(sightings)
    return FilmVerdict(
        found=True,
        color=seen.color == clip.color,
        shape=seen.shape == clip.shape,
        place=seen.place == clip.place,
        motion=seen.motion == clip.motion,
        alone=_most_common([s.others for s in sightings]) == 0,
        seen=seen,
    )


def load_film(folder: Path) -> np.ndarray:
    """The PNG files of a folder in the order of their names: [frames, side, side, 3]."""
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise FileNotFoundError(f"no frames in {folder}")
    return np.stack([load_picture(path) for path in paths])


def follow(frames: np.ndarray, background: str) -> list[Sighting]:
    """The object in some evenly spaced frames; frames without one are left out."""
    looked_at = np.linspace(0, len(frames) - 1, min(FRAMES_LOOKED_AT, len(frames))).round()
    scene = Scene(background, "plain", ())
    sightings = []
    for number in looked_at.astype(int):
        pixels = load_picture(frames[number])
        parts = connected_parts(find_foreground(pixels, scene))
        if parts and parts[0].mean() < 0.5:
            time = float(number) / max(1, len(frames) - 1)
            sightings.append(_sight(pixels, parts, time))
    return sightings


def _sight(pixels: np.ndarray, parts: list[np.ndarray], time: float) -> Sighting:
    part = parts[0]
    fits = [
        (fit_shape(part, shape, angle), shape, angle)
        for shape in SHAPES
        for angle in np.arange(0, SYMMETRY[shape] - 1e-9, ANGLE_STEP)
    ]
    fit, shape, angle = max(fits, key=lambda f: f[0].overlap)
    known = shape if fit.overlap >= MIN_OVERLAP else None
    x, y = fit.center
    color = nearest_color(pixels, part)
    return Sighting(time, x, y, fit.radius, color, known, float(angle), len(parts) - 1)


def describe(sightings: list[Sighting]) -> FoundClip:
    """Colour, shape, motion and place of what was followed."""
    shape = _most_common([s.shape for s in sightings])
    center = (_halfway(sightings, "x"), _halfway(sightings, "y"))
    place = min(PLACES, key=lambda p: np.hypot(*np.subtract(PLACES[p], center)))
    return FoundClip(_most_common([s.color for s in sightings]), shape, motion(sightings), place)


def motion(sightings: list[Sighting]) -> str:
    """What the object does: the motion of which it shows the largest share."""
    change_x, change_y = _change(sightings, "x"), _change(sightings, "y")
    growth = _slope(sightings, np.log([s.radius for s in sightings])) / (2 * np.log(GROWTH))
    shares = {
        name: (change_x * x + change_y * y) / (2 * REACH) for name, (x, y) in DIRECTIONS.items()
    }
    shares |= {"growing": growth, "shrinking": -growth, "rotating": _turn(sightings) / TURN}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= MIN_COURSE else STILL


def _turn(sightings: list[Sighting]) -> float:
    """The angle through which the object turns, clockwise; 0 when its shape changes or is round."""
    shapes = {s.shape for s in sightings}
    shape = shapes.pop()
    if shapes or shape is None or shape in ROUND_SHAPES:
        return 0.0
    period = SYMMETRY[shape]
    return _slope(sightings, np.unwrap([s.angle for s in sightings], period=period))


def _change(sightings: list[Sighting], field: str) -> float:
    return _slope(sightings, [getattr(s, field) for s in sightings])


def _halfway(sightings: list[Sighting], field: str) -> float:
    values = [getattr(s, field) for s in sightings]
    line = np.polyfit([s.time for s in sightings], values, 1)
    return float(np.polyval(line, 0.5))


def _slope(sightings: list[Sighting], values: object) -> float:
    """Change over the whole film along the straight line that fits best."""
    return float(np.polyfit([s.time for s in sightings], values, 1)[0])


def _most_common(values: list) -> object:
    return Counter(values).most_common(1)[0][0]
