"""PSNR and SSIM against values that can be worked out by hand."""

import numpy as np
import pytest
from likeness import pairs, psnr, ssim


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((32, 40, 3))


def test_equal_pictures():
    assert psnr(picture(), picture()) == float("inf")
    assert ssim(picture(), picture()) == pytest.approx(1.0)


def test_psnr_of_a_constant_error():
    flat = np.full((16, 16, 3), 0.5)
    assert psnr(flat, flat + 0.1) == pytest.approx(20.0)
    assert psnr(flat, flat + 0.01) == pytest.approx(40.0)


def test_ssim_of_flat_pictures_is_the_luminance_term():
    a, b = np.full((16, 16, 3), 0.4), np.full((16, 16, 3), 0.6)
    expected = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    assert ssim(a, b) == pytest.approx(expected)


def test_ssim_falls_with_noise_and_is_symmetric():
    clean = np.tile(np.linspace(0, 1, 40)[None, :, None], (32, 1, 3))
    little = clean + 0.05 * (picture(1) - 0.5)
    much = clean + 0.5 * (picture(1) - 0.5)
    assert 1 > ssim(clean, little) > ssim(clean, much)
    assert ssim(clean, much) == pytest.approx(ssim(much, clean))


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        psnr(picture(), picture()[:16])


def test_films_pair_their_frames_by_name(tmp_path):
    for film, names in (("a", ("1.png", "2.png")), ("b", ("2.png", "1.png")), ("c", ("1.png",))):
        (tmp_path / film).mkdir()
        for name in names:
            (tmp_path / film / name).touch()
    a, b, c = (tmp_path / film for film in "abc")
    assert pairs(a, b) == [(a / "1.png", b / "1.png"), (a / "2.png", b / "2.png")]
    assert pairs(a / "1.png", b / "2.png") == [(a / "1.png", b / "2.png")]
    with pytest.raises(ValueError, match="lengths: 2 and 1"):
        pairs(a, c)
    with pytest.raises(FileNotFoundError, match="no frames"):
        pairs(tmp_path, a)
