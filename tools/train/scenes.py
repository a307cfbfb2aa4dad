"""Procedural scenes with English captions: the data set of the demo models.

A scene is a background in one of six materials and one to three objects. An object has a size, a
pattern, a colour, a shape and a place on a 3 x 3 grid. `sample_scene` draws a scene, `caption` says
it in English, `parse_caption` reads the sentence back, `render` paints it at any resolution.

The caption names a material, never its course, and no jitter of place or size: many pictures fit
one caption, as with real prompts. Lengths are shares of the picture's side, y points down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

COLORS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (45, 80, 220),
    "yellow": (245, 215, 50),
    "purple": (140, 60, 180),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
    "pink": (250, 140, 190),
    "cyan": (60, 200, 220),
}
BACKGROUNDS: dict[str, Colour] = {
    "grey": (128, 128, 128),
    "beige": (225, 205, 170),
    "navy": (25, 35, 80),
    "olive": (110, 115, 50),
    "teal": (20, 110, 110),
    "maroon": (100, 25, 40),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
DARK_BACKGROUNDS = ("black", "navy", "maroon")
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond")
PATTERNS = ("plain", "striped", "dotted", "marble")
PATTERN_WEIGHTS = (0.4, 0.2, 0.2, 0.2)
MATERIALS = ("plain", "gradient", "cloudy", "marble", "wooden", "wavy")
MATERIAL_WEIGHTS = (0.2, 0.1, 0.175, 0.175, 0.175, 0.175)
SIZES = {"small": 0.13, "large": 0.22}  # radius
PLACES = {
    "top left": (0.25, 0.25),
    "top": (0.50, 0.25),
    "top right": (0.75, 0.25),
    "left": (0.25, 0.50),
    "center": (0.50, 0.50),
    "right": (0.75, 0.50),
    "bottom left": (0.25, 0.75),
    "bottom": (0.50, 0.75),
    "bottom right": (0.75, 0.75),
}
PLACE_JITTER = 0.02  # added to a centre, each axis, uniform in plus or minus
SIZE_JITTER = 0.05  # relative, on the radius
STRIPES_PER_SIDE = 14
DOT_SPACING, DOT_RADIUS = 0.075, 0.022


@dataclass(frozen=True)
class SceneObject:
    """One object, by the words that the caption uses."""

    size: str
    color: str
    pattern: str
    shape: str
    place: str


@dataclass(frozen=True)
class Scene:
    """A background and its objects, by the words that the caption uses."""

    background: str
    material: str
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture, in pixels: what `render` paints when not all is wanted."""

    top: int
    left: int
    height: int
    width: int


# ---- drawing a scene and saying it


def sample_scene(
    rng: np.random.Generator, count_probabilities: tuple[float, ...] = (0.4, 0.4, 0.2)
) -> Scene:
    """Draws a scene; `count_probabilities[i]` is the share of scenes with i + 1 objects."""
    background = str(rng.choice(list(BACKGROUNDS)))
    material = str(rng.choice(MATERIALS, p=MATERIAL_WEIGHTS))
    count = int(rng.choice(len(count_probabilities), p=count_probabilities)) + 1
    objects: list[SceneObject] = []
    for _ in range(count):
        spot = _free_place(rng, objects, only_small=count >= 3)
        if spot is not None:
            size, place = spot
            color = str(rng.choice([c for c in COLORS if c != background]))
            pattern = str(rng.choice(PATTERNS, p=PATTERN_WEIGHTS))
            objects.append(SceneObject(size, color, pattern, str(rng.choice(SHAPES)), place))
    return Scene(background, material, tuple(objects))


def _free_place(
    rng: np.random.Generator, objects: list[SceneObject], only_small: bool
) -> tuple[str, str] | None:
    """A size and a place that touches no object drawn before, or None after twenty tries."""
    for _ in range(20):
        place = list(PLACES)[rng.integers(len(PLACES))]
        size = "small" if only_small else ("small", "large")[rng.integers(2)]
        gaps = [
            np.hypot(*np.subtract(PLACES[place], PLACES[o.place])) - SIZES[size] - SIZES[o.size]
            for o in objects
        ]
        if all(gap > 0.01 for gap in gaps):
            return size, place
    return None


def caption(scene: Scene) -> str:
    """The English sentence for a scene."""
    said = []
    for o in scene.objects:
        words = ["a", o.size, "" if o.pattern == "plain" else o.pattern, o.color, o.shape]
        said.append(" ".join(w for w in words if w) + f" at the {o.place}")
    listing = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
    ground = {
        "plain": scene.background,
        "gradient": f"{scene.background} gradient",
    }.get(scene.material, f"{scene.material} {scene.background}")
    return f"{listing} on a {ground} background"


def parse_caption(text: str) -> Scene:
    """The scene that a caption describes; the inverse of `caption`. ValueError when it is none."""
    sentence = re.fullmatch(r"(.+) on a (.+) background", text.strip().lower())
    if sentence is None:
        raise ValueError(f"not a caption: {text!r}")
    objects = tuple(_parse_object(part) for part in re.split(r", | and ", sentence[1]))
    words = sentence[2].split()
    if len(words) == 2 and words[1] == "gradient":
        background, material = words[0], "gradient"
    else:
        background, material = words[-1], words[0] if len(words) == 2 else "plain"
    if background not in BACKGROUNDS or material not in MATERIALS or len(words) > 2:
        raise ValueError(f"unknown background {sentence[2]!r} in {text!r}")
    return Scene(background, material, objects)


def _parse_object(text: str) -> SceneObject:
    def one_of(words: object) -> str:
        return "(" + "|".join(sorted(words, key=len, reverse=True)) + ")"

    pattern = (
        f"a {one_of(SIZES)} (?:{one_of(PATTERNS)} )?{one_of(COLORS)} {one_of(SHAPES)}"
        f" at the {one_of(PLACES)}"
    )
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ValueError(f"not an object: {text!r}")
    size, painted, color, shape, place = match.groups()
    return SceneObject(size, color, painted or "plain", shape, place)


# ---- painting


def render(
    scene: Scene, side: int, rng: np.random.Generator | None = None, window: Window | None = None
) -> np.ndarray:
    """Paints a scene of side x side pixels, or only a window of it.

    Returns [height, width, 3], float32, 0 to 1. `rng` draws the courses of the materials and the
    jitter of the objects; without it the objects stand exactly where the caption says.
    """
    window = window or Window(0, 0, side, side)
    x = ((np.arange(window.width, dtype=np.float32) + window.left + 0.5) / side)[None, :]
    y = ((np.arange(window.height, dtype=np.float32) + window.top + 0.5) / side)[:, None]
    random = rng if rng is not None else np.random.default_rng(0)
    image = _paint_background(scene, x, y, side, random)
    for o in scene.objects:
        (cx, cy), radius = PLACES[o.place], SIZES[o.size]
        if rng is not None:
            cx += rng.uniform(-PLACE_JITTER, PLACE_JITTER)
            cy += rng.uniform(-PLACE_JITTER, PLACE_JITTER)
            radius *= rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
        _paint_object(image, o, (x - cx, y - cy), radius, side, random)
    return image


def _paint_background(
    scene: Scene, x: np.ndarray, y: np.ndarray, side: int, rng: np.random.Generator
) -> np.ndarray:
    image = np.empty((y.size, x.size, 3), np.float32)
    image[:] = np.array(BACKGROUNDS[scene.background], np.float32) / 255
    if scene.material == "gradient":
        image *= (1.15 - 0.5 * y)[..., None]
    elif scene.material != "plain":
        course = texture(scene.material, rng, x, y, side)[..., None]
        image *= 1 + 0.28 * course
        if scene.background in DARK_BACKGROUNDS:  # a share of almost nothing would not be seen
            image += 0.05 * course
    return np.clip(image, 0, 1, out=image)


def _paint_object(
    image: np.ndarray,
    o: SceneObject,
    offset: tuple[np.ndarray, np.ndarray],
    radius: float,
    side: int,
    rng: np.random.Generator,
) -> None:
    """Paints one object into `image`, working on its bounding box only."""
    dx, dy = offset
    reach = 1.5 * radius + 2 / side
    columns = np.flatnonzero(np.abs(dx[0]) < reach)
    rows = np.flatnonzero(np.abs(dy[:, 0]) < reach)
    # The course of a marble paint is drawn even when the object lies outside the window, so that a
    # window shows the same picture as the whole.
    course = _MarbleCourse(rng) if o.pattern == "marble" else None
    if columns.size == 0 or rows.size == 0:
        return
    dx, dy = dx[:, columns], dy[rows]
    box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = np.clip(0.5 - signed_distance(o.shape, dx, dy, radius) * side, 0, 1)[..., None]
    color = np.array(COLORS[o.color], np.float32) / 255
    paint = color * np.ones_like(box)
    if o.pattern != "plain":
        second = color * 0.45 + (0.0 if color.mean() > 0.5 else 0.45)
        mix = course(dx, dy) if course else _pattern(o.pattern, dx, dy, side)
        paint = color * mix[..., None] + second * (1 - mix[..., None])
    shade = 1.08 - 0.35 * np.clip((dx + dy) / (2 * radius) + 0.35, 0, 1)
    box += alpha * (np.clip(paint * shade[..., None], 0, 1) - box)


def _pattern(pattern: str, dx: np.ndarray, dy: np.ndarray, side: int) -> np.ndarray:
    """Share of the object's colour against its second tone: [height, width], 0 to 1."""
    if pattern == "striped":
        phase = 2 * np.pi * STRIPES_PER_SIDE * (dx + dy)
        return np.clip(0.5 + np.sin(phase) * side / (2 * np.pi * STRIPES_PER_SIDE), 0, 1)
    if pattern == "dotted":
        u, v = (np.mod(d + DOT_SPACING / 2, DOT_SPACING) - DOT_SPACING / 2 for d in (dx, dy))
        return 1 - np.clip(0.5 - (np.hypot(u, v) - DOT_RADIUS) * side, 0, 1)
    raise ValueError(f"unknown pattern {pattern!r}")


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Signed distance to a shape of radius r about the origin, negative inside."""
    if shape == "circle":
        return np.hypot(x, y) - r
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.85 * r
    if shape == "diamond":
        return (np.abs(x) + np.abs(y)) * np.sqrt(0.5) - 0.75 * r
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.75 * r) - 0.25 * r
    if shape == "cross":
        upright = np.maximum(np.abs(x) - 0.33 * r, np.abs(y) - r)
        lying = np.maximum(np.abs(x) - r, np.abs(y) - 0.33 * r)
        return np.minimum(upright, lying)
    if shape == "triangle":
        return np.maximum(0.866 * np.abs(x) - 0.5 * y, y) - 0.55 * r
    if shape == "star":
        return _star_distance(x, y, r)
    if shape == "heart":
        u, v = np.abs(x) / r, 0.1 - y / r
        lobes = np.hypot(u - 0.42, v - 0.3) - 0.5
        # A square on its tip between the lobes: its lower sides touch them, its upper sides end at
        # their centres, so that it shows between them and below them only.
        tip = np.maximum(np.sqrt(0.5) * (u - v) - 0.585, np.sqrt(0.5) * (u + v) - 0.509)
        return np.minimum(lobes, np.maximum(tip, v - 0.45)) * r
    raise ValueError(f"unknown shape {shape!r}")


def turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates turned by an angle; clockwise as seen when y points down."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * x - sine * y, sine * x + cosine * y


def _star_distance(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """A five-pointed star, inner radius 0.45 r: the distance to one edge, folded five times."""
    angle, rho = np.arctan2(x, -y), np.hypot(x, y)
    fold = np.mod(angle + np.pi / 5, 2 * np.pi / 5) - np.pi / 5
    px, py = rho * np.cos(fold), np.abs(rho * np.sin(fold))
    edge_x = 0.45 * r * np.cos(np.pi / 5) - r
    edge_y = 0.45 * r * np.sin(np.pi / 5)
    return ((px - r) * edge_y - py * edge_x) / np.hypot(edge_x, edge_y)


# ---- materials


class FractalNoise:
    """Value noise summed over octaves, about unit variance, evaluated wherever it is asked for.

    All random numbers are drawn on construction, so windows of one picture fit each other.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        cells: float,
        octaves: int = 4,
        roughness: float = 0.55,
        stretch: float = 1.0,
    ) -> None:
        self._grids = []
        for octave in range(octaves):
            columns = max(2, int(cells * 2**octave))
            rows = max(2, int(cells * stretch * 2**octave))
            grid = rng.standard_normal((rows + 3, columns + 3)).astype(np.float32)
            self._grids.append((grid, rows, columns))
        self._amplitudes = roughness ** np.arange(octaves, dtype=np.float32)

    def __call__(self, x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
        """The noise at x [1, width] and y [height, 1]; octaves too fine for `side` are left out."""
        total = np.zeros((y.size, x.size), np.float32)
        power = 0.0
        for amplitude, (grid, rows, columns) in zip(self._amplitudes, self._grids, strict=True):
            if columns > side // 2:
                break
            total += amplitude * _interpolate(grid, x.ravel() * columns, y.ravel() * rows)
            power += float(amplitude) ** 2
        return total / np.sqrt(power)


def _interpolate(grid: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smoothly interpolated `grid` at columns u and rows v: [v.size, u.size]."""
    j, i = u.astype(int), v.astype(int)
    fraction_u, fraction_v = u - j, v - i
    weight_u = (fraction_u * fraction_u * (3 - 2 * fraction_u))[None].astype(np.float32)
    weight_v = (fraction_v * fraction_v * (3 - 2 * fraction_v))[:, None].astype(np.float32)
    rows = grid[:, j] * (1 - weight_u) + grid[:, j + 1] * weight_u
    return rows[i] * (1 - weight_v) + rows[i + 1] * weight_v


def texture(
    material: str, rng: np.random.Generator, x: np.ndarray, y: np.ndarray, side: int
) -> np.ndarray:
    """A random piece of a material, about -1 to 1, on the grid of x and y."""
    turn = rng.uniform(0, np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = y * np.cos(turn) - x * np.sin(turn)
    if material == "cloudy":
        return 0.8 * FractalNoise(rng, 3, 4, 0.6)(x, y, side)
    if material == "marble":
        veins = rng.uniform(2.5, 4)
        return np.sin(along * 2 * np.pi * veins + 2.2 * FractalNoise(rng, 2.5)(x, y, side))
    if material == "wooden":
        return _wood(rng, x, y, side)
    if material == "wavy":
        crests, bends, phase = rng.uniform(5, 8), rng.uniform(1.5, 3), rng.uniform(0, 6)
        bend = 0.12 * np.sin(2 * np.pi * across * bends + phase)
        return np.sin(2 * np.pi * (along * crests + bend))
    raise ValueError(f"unknown material {material!r}")


def _wood(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
    heart_x, heart_y, rings = rng.uniform(-0.3, 0.1), rng.uniform(0.2, 0.8), rng.uniform(5, 7)
    distance = np.hypot(x - heart_x, 3 * (y - heart_y)) + 0.06 * FractalNoise(rng, 2, 3)(x, y, side)
    fibre = FractalNoise(rng, 3, 3, stretch=8)(x, y, side)
    return 0.8 * np.sin(distance * 2 * np.pi * rings) + 0.25 * fibre


class _MarbleCourse:
    """The marble paint of one object: share of its colour, in coordinates about its centre."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._turn, self._veins = rng.uniform(0, np.pi), rng.uniform(2.5, 4)
        self._noise = FractalNoise(rng, 2.5)

    def __call__(self, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        along = dx * np.cos(self._turn) + dy * np.sin(self._turn)
        noise = self._noise(dx + 0.5, dy + 0.5, 1 << 30)
        return np.clip(0.62 + 0.45 * np.sin(along * 2 * np.pi * self._veins + 2.2 * noise), 0, 1)
