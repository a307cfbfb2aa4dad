"""Finds the objects of a picture and compares them with what its caption promised.

The detector is blind to the objects promised: only the background's name and material are taken
from the caption. Pixels away from the background's tones are foreground; its connected parts are the
objects; each gets the nearest palette colour (under any shading and pattern), the nearest of nine
places, and the shape and size whose outline overlaps best. Only then are they matched with the
caption. Works on 128 x 128 averages, lengths are shares of the side, colours 0 to 1.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from scenes import (  # noqa: E402
    BACKGROUNDS,
    COLORS,
    DARK_BACKGROUNDS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    parse_caption,
    signed_distance,
    turned,
)

GRID = 128
MIN_AREA = 0.004  # a small cross or ring, the least of all, covers 0.03
FOREGROUND_DISTANCE = 0.085  # from the background's tones: cyan shaded on teal is 0.1 away
CLOSING_RADIUS = 2  # stripes whose second tone equals the background are 3.2 pixels wide
MAX_DOT_AREA = 0.003  # a dot covers 0.0015, the hole of a small ring 0.013
MIN_OVERLAP = 0.5  # intersection over union below which an outline is no shape at all


@dataclass(frozen=True)
class FoundObject:
    """One connected part of the foreground, described as captions do."""

    color: str
    place: str
    shape: str | None
    size: str
    center: tuple[float, float]
    overlap: float


@dataclass(frozen=True)
class ObjectVerdict:
    """What became of one promised object."""

    promised: SceneObject
    found: bool
    color: bool
    place: bool
    shape: bool
    size: bool

    @property
    def right(self) -> bool:
        """All that names the object; its size is reported beside."""
        return self.color and self.place and self.shape


@dataclass(frozen=True)
class PictureVerdict:
    """What became of a caption: its objects, and how many more were painted."""

    objects: tuple[ObjectVerdict, ...]
    extra_objects: int
    background: bool

    @property
    def right(self) -> bool:
        return self.background and self.extra_objects == 0 and all(o.right for o in self.objects)

    def as_json(self) -> dict:
        """Plain values for a report."""
        objects = [asdict(o) | {"right": o.right} for o in self.objects]
        return {
            "objects": objects,
            "extra_objects": self.extra_objects,
            "background": self.background,
            "right": self.right,
        }


def judge(picture: np.ndarray | Path | str, prompt: str) -> PictureVerdict:
    """Compares a picture (a PNG's path, or [side, side, 3] 8-bit or 0..1) with its caption."""
    scene = parse_caption(prompt)
    pixels = load_picture(picture)
    foreground = find_foreground(pixels, scene)
    found = [describe(pixels, part) for part in connected_parts(foreground)]
    best = max(_assignments(scene.objects, found), key=lambda verdicts: sum(map(_score, verdicts)))
    used = sum(v.found for v in best)
    backdrop = float(np.mean(~foreground))
    return PictureVerdict(tuple(best), max(0, len(found) - used), backdrop > 0.4)


def load_picture(picture: np.ndarray | Path | str) -> np.ndarray:
    """A picture as [GRID, GRID, 3], 0 to 1, each pixel the mean of its area."""
    if not isinstance(picture, np.ndarray):
        with Image.open(picture) as image:
            picture = np.asarray(image.convert("RGB"))
    if picture.dtype != np.uint8:
        picture = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    resized = Image.fromarray(picture).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(resized, np.float32) / 255


# ---- foreground


def background_tones(scene: Scene) -> np.ndarray:
    """The colours that the background may take: [GRID rows or 1, tones, 3]."""
    base = np.array(BACKGROUNDS[scene.background], np.float32) / 255
    if scene.material == "gradient":
        y = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
        factor = (1.15 - 0.5 * y)[:, None] + np.linspace(-0.06, 0.06, 5)[None]
        return np.clip(base * factor[..., None], 0, 1)
    # Clouds are normal noise of deviation 0.8, the other materials are sines.
    reach = {"plain": 0.1, "cloudy": 2.1}.get(scene.material, 1.5)
    course = np.linspace(-reach, reach, 61)[None, :, None]
    tones = base * (1 + 0.28 * course)
    if scene.background in DARK_BACKGROUNDS:
        tones = tones + 0.05 * course
    return np.clip(tones, 0, 1)


def find_foreground(pixels: np.ndarray, scene: Scene) -> np.ndarray:
    """True where a pixel is no tone of the background, thin gaps closed: [GRID, GRID]."""
    tones = background_tones(scene)
    difference = pixels[:, :, None, :] - tones[:, None, :, :]
    distance = np.sqrt((difference**2).sum(-1).min(-1))
    return fill_holes(close_gaps(distance > FOREGROUND_DISTANCE, CLOSING_RADIUS))


def close_gaps(mask: np.ndarray, radius: int) -> np.ndarray:
    """Morphological closing with a disc, after the removal of single pixels."""
    opened = _dilate(_erode(mask, 1), 1)
    padded = np.pad(opened, radius)
    closed = _erode(_dilate(padded, radius), radius)
    return closed[radius:-radius, radius:-radius]


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fills holes as small as a dot, whose tone may equal the background's; not those of rings."""
    filled = mask.copy()
    for hole in connected_parts(~mask, min_area=0):
        if hole.mean() < MAX_DOT_AREA:
            filled |= hole
    return filled


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    height, width = mask.shape
    padded = np.pad(mask, radius)
    grown = np.zeros_like(mask)
    for dy, dx in itertools.product(range(2 * radius + 1), repeat=2):
        if np.hypot(dy - radius, dx - radius) <= radius + 0.3:
            grown |= padded[dy : dy + height, dx : dx + width]
    return grown


def _erode(mask: np.ndarray, radius: int) -> np.ndarray:
    return ~_dilate(~mask, radius)


def connected_parts(mask: np.ndarray, min_area: float = MIN_AREA) -> list[np.ndarray]:
    """The 4-connected parts of a mask that are not crumbs, largest first."""
    height, width = mask.shape
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:  # every pixel takes the largest label around it, until nothing changes
        padded = np.pad(labels, 1)
        around = np.stack(
            [
                padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
                for dy, dx in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
            ]
        )
        spread = np.where(mask, around.max(0), 0)
        # A label is the index of a pixel: jumping to that pixel's own label halves the way.
        spread = np.where(mask, spread.ravel()[np.maximum(spread, 1) - 1], 0)
        if np.array_equal(spread, labels):
            break
        labels = spread
    values, counts = np.unique(labels[mask], return_counts=True)
    order = np.argsort(-counts)
    return [labels == values[i] for i in order if counts[i] >= min_area * mask.size]


# ---- describing a part


def describe(pixels: np.ndarray, part: np.ndarray) -> FoundObject:
    """Colour, place, shape and size of one part of the foreground."""
    rows, columns = np.nonzero(part)
    extent_x = (columns.min() + columns.max() + 1) / 2 / GRID
    extent_y = (rows.min() + rows.max() + 1) / 2 / GRID
    fits = [fit_shape(part, shape) for shape in SHAPES]
    best = max(range(len(SHAPES)), key=lambda i: fits[i].overlap)
    fit = fits[best]
    known = fit.overlap >= MIN_OVERLAP
    center = fit.center if known else (extent_x, extent_y)
    place = min(PLACES, key=lambda p: np.hypot(*np.subtract(PLACES[p], center)))
    size = min(SIZES, key=lambda s: abs(np.log(SIZES[s] / fit.radius)))
    color = nearest_color(pixels, part)
    return FoundObject(color, place, SHAPES[best] if known else None, size, center, fit.overlap)


@dataclass(frozen=True)
class ShapeFit:
    """A shape laid over a part so that areas and centroids agree."""

    overlap: float
    radius: float
    center: tuple[float, float]


@lru_cache(maxsize=None)
def _unit_shape(shape: str) -> tuple[float, float, float]:
    """Area and centroid (x, y) of a shape of radius 1."""
    axis = (np.arange(-150, 150) + 0.5) / 100
    x, y = np.meshgrid(axis, axis)
    inside = signed_distance(shape, x, y, 1.0) < 0
    return inside.sum() / 100**2, float(x[inside].mean()), float(y[inside].mean())


def fit_shape(part: np.ndarray, shape: str, angle: float = 0.0) -> ShapeFit:
    """Overlap of a part with a shape, turned by `angle`, of the same area and centroid."""
    area, *centroid = _unit_shape(shape)
    shape_x, shape_y = turned(*centroid, angle)
    rows, columns = np.nonzero(part)
    radius = float(np.sqrt(len(rows) / GRID**2 / area))
    center_x = float(columns.mean() + 0.5) / GRID - radius * shape_x
    center_y = float(rows.mean() + 0.5) / GRID - radius * shape_y
    axis = (np.arange(GRID) + 0.5) / GRID
    x, y = turned(axis[None] - center_x, axis[:, None] - center_y, -angle)
    inside = signed_distance(shape, x, y, radius) < 0
    inside = np.broadcast_to(inside, part.shape)
    overlap = (inside & part).sum() / (inside | part).sum()
    return ShapeFit(float(overlap), radius, (center_x, center_y))


@lru_cache(maxsize=None)
def _color_tones(color: str) -> np.ndarray:
    """The tones of an object's colour: shadings of its two paints and of what lies between them."""
    first = np.array(COLORS[color], np.float32) / 255
    second = first * 0.45 + (0.0 if first.mean() > 0.5 else 0.45)
    mix = np.linspace(0, 1, 6)[:, None, None]
    shade = np.linspace(0.73, 1.08, 8)[None, :, None]
    return np.clip((first * mix + second * (1 - mix)) * shade, 0, 1).reshape(-1, 3)


def nearest_color(pixels: np.ndarray, part: np.ndarray) -> str:
    """The palette colour whose tones explain the pixels best; the outline does not count."""
    core = _erode(part, 1)
    values = pixels[core if core.sum() > 20 else part]

    def misfit(color: str) -> float:
        difference = values[:, None, :] - _color_tones(color)[None]
        distance = np.sqrt((difference**2).sum(-1).min(-1))
        first = np.array(COLORS[color], np.float32) / 255
        # The first paint covers half of any object or more: it breaks ties between colours whose
        # tones overlap, such as black and white in marble.
        typical = np.abs(np.median(values, axis=0) - first * 0.93).mean()
        return float(np.minimum(distance, 0.3).mean() + 0.2 * typical)

    return min(COLORS, key=misfit)


# ---- comparing with the caption


def _assignments(
    promised: tuple[SceneObject, ...], found: list[FoundObject]
) -> list[list[ObjectVerdict]]:
    """Every way to give each promised object a found one or none."""
    candidates = found[:5] + [None] * len(promised)
    orders = itertools.permutations(candidates, len(promised))
    return [[_compare(p, f) for p, f in zip(promised, order, strict=True)] for order in orders]


def _compare(promised: SceneObject, found: FoundObject | None) -> ObjectVerdict:
    if found is None:
        return ObjectVerdict(promised, False, False, False, False, False)
    color, place = found.color == promised.color, found.place == promised.place
    shape, size = found.shape == promised.shape, found.size == promised.size
    return ObjectVerdict(promised, True, color, place, shape, size)


def _score(verdict: ObjectVerdict) -> float:
    place, color, shape = 1.1 * verdict.place, 1.0 * verdict.color, 0.9 * verdict.shape
    return place + color + shape + 0.5 * verdict.found + 0.1 * verdict.size
