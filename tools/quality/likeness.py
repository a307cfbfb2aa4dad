"""How like two pictures or films are: PSNR in dB, and SSIM after Wang et al. 2004.

A film is a folder of its frames, as `tamias generate --frames-dir` writes it; both measures are means
over the frames then.

SSIM: Gaussian window of 11 x 11, deviation 1.5, K1 0.01, K2 0.03, data range 1, the mean over the
three channels and over the area that the window covers wholly.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

WINDOW = 11
DEVIATION = 1.5


def load(path: Path | str) -> np.ndarray:
    """A picture file as [height, width, 3], float64, 0 to 1."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float64) / 255


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal to noise ratio of two pictures in 0..1; infinite when they are equal."""
    _require_same_shape(first, second)
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of two pictures [height, width, channels] in 0..1; 1 when equal."""
    _require_same_shape(first, second)
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(
        np.mean(numerator / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)))
    )


def pairs(first: Path, second: Path) -> list[tuple[Path, Path]]:
    """The two pictures, or the frames of two films in the order of their names."""
    if not first.is_dir():
        return [(first, second)]
    frames = [sorted(folder.glob("*.png")) for folder in (first, second)]
    if not frames[0]:
        raise FileNotFoundError(f"{first}: no frames (*.png)")
    if len(frames[0]) != len(frames[1]):
        raise ValueError(f"films of different lengths: {len(frames[0])} and {len(frames[1])}")
    return list(zip(*frames, strict=True))


def _blur(image: np.ndarray) -> np.ndarray:
    """Separable Gaussian over the first two axes, only where the window fits."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * DEVIATION**2))
    weights /= weights.sum()
    height, width = image.shape[:2]
    rows = sum(w * image[i : height - WINDOW + 1 + i] for i, w in enumerate(weights))
    return sum(w * rows[:, i : width - WINDOW + 1 + i] for i, w in enumerate(weights))


def _require_same_shape(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(f"pictures of different shapes: {first.shape} and {second.shape}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    args = parser.parse_args()
    found = [(load(a), load(b)) for a, b in pairs(args.first, args.second)]
    means = {m.__name__: float(np.mean([m(a, b) for a, b in found])) for m in (psnr, ssim)}
    print(json.dumps(means))


if __name__ == "__main__":
    main()
