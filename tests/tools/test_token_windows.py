"""The tokens that a training sample shows."""

import numpy as np
import pytest
from token_windows import WindowShape, choose_positions

GRID = (9, 16, 16)


def draw(shape: WindowShape, grid=GRID, first=0, center=(0.5, 0.5), seed=0) -> np.ndarray:
    return choose_positions(np.random.default_rng(seed), grid, shape, first, center)


@pytest.mark.parametrize("shape", [WindowShape(6, 124, 9), WindowShape(16, 192), WindowShape(1, 0)])
def test_every_token_is_shown_once_and_lies_in_the_grid(shape):
    for seed in range(20):
        where = draw(shape, seed=seed)
        assert where.shape == (shape.tokens, 3)
        assert len(np.unique(where, axis=0)) == shape.tokens
        assert where.min() >= 0
        assert np.all(where.max(0) < GRID)


def test_the_window_comes_first_and_is_a_block_of_its_frames():
    shape = WindowShape(4, 50, 3)
    window = draw(shape, first=5)[: shape.window_tokens]
    assert np.unique(window[:, 0]).tolist() == [5, 6, 7]
    for axis in (1, 2):
        lines = np.unique(window[:, axis])
        assert len(lines) == 4
        assert lines[-1] - lines[0] == 3


def test_a_window_as_large_as_the_whole_has_nothing_beside_it():
    where = draw(WindowShape(16, 10), grid=(1, 16, 16))
    assert len(where) == 256


def test_windows_are_mostly_near_their_center():
    corners = [draw(WindowShape(4, 0), center=(0.2, 0.8), seed=s)[0, 1:] for s in range(200)]
    row, column = np.median(corners, axis=0)
    assert abs(row - (0.8 * 16 - 2)) <= 1
    assert abs(column - (0.2 * 16 - 2)) <= 1
