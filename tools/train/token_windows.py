"""Which tokens of a picture or clip a training sample shows.

A block of tokens with their true places and times, and single tokens scattered over the rest, which
tell the model how large the whole is and what its background looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ANYWHERE_SHARE = 0.15  # of windows that are not near an object


@dataclass(frozen=True)
class WindowShape:
    """Side and number of frames of the block in tokens, and how many tokens are scattered.

    A block as large as the whole has no scattered tokens beside it.
    """

    side: int
    scattered: int
    frames: int = 1

    @property
    def window_tokens(self) -> int:
        return self.frames * self.side**2

    @property
    def tokens(self) -> int:
        return self.window_tokens + self.scattered


def choose_positions(
    rng: np.random.Generator,
    grid: tuple[int, int, int],
    shape: WindowShape,
    first_frame: int,
    center: tuple[float, float] | None,
) -> np.ndarray:
    """Frames, rows and columns of the tokens of one sample: [tokens, 3].

    `grid` is the size of the whole. The window is mostly near `center` (x and y as shares of the
    side), where there is something to learn; now and then, or without a centre, anywhere.
    """
    frames, height, width = grid
    free = height - shape.side
    top, left = _corner(rng, height, shape.side, free, center) if free > 0 else (0, 0)
    inside = np.zeros(grid, bool)
    last_frame = first_frame + shape.frames
    inside[first_frame:last_frame, top : top + shape.side, left : left + shape.side] = True
    window = np.argwhere(inside)
    if shape.scattered == 0 or len(window) == frames * height * width:
        return window
    rest = np.argwhere(~inside)
    scattered = rest[rng.choice(len(rest), shape.scattered, replace=False)]
    return np.concatenate([window, scattered])


def stand_in_bias(shape: WindowShape, tokens: int) -> np.ndarray | None:
    """What is added to the attention scores of a sample's tokens as keys: [tokens], fp32.

    A scattered token stands for as many of the `tokens` of the whole as the window leaves out for
    each: the logarithm of that number. Without it a window of 640 tokens would leave the text a six
    times larger share of the attention than the whole picture of 4,096 does. None if there are none
    scattered.
    """
    if shape.scattered == 0:
        return None
    bias = np.zeros(shape.tokens, np.float32)
    bias[shape.window_tokens :] = np.log((tokens - shape.window_tokens) / shape.scattered)
    return bias


def _corner(
    rng: np.random.Generator,
    grid_side: int,
    side: int,
    free: int,
    center: tuple[float, float] | None,
) -> tuple[int, int]:
    if center is None or rng.random() < ANYWHERE_SHARE:
        return int(rng.integers(free + 1)), int(rng.integers(free + 1))
    shift = rng.integers(-side // 3, side // 3 + 1, size=2)
    corner = np.array(center[::-1]) * grid_side - side / 2 + shift
    top, left = np.clip(np.round(corner).astype(int), 0, free)
    return int(top), int(left)
