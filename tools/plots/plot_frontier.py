#!/usr/bin/env python3
"""Draws likeness over time from the JSON of bench/frontier.py and bench/diffusers_peer.py.

    python tools/plots/plot_frontier.py docs/measurements/frontier-video.json docs/measurements/diffusers-video.json \
        --output docs/images/frontier-films.png

Speed-up over our own dense run along x; up and right is better. Of points that coincide one has a
label. Needs matplotlib.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

STYLES = {
    "Tamias": dict(color="#b5541c", marker="o"),
    "fewer steps": dict(color="#555555", marker="s"),
    "diffusers": dict(color="#2a6fb0", marker="^"),
}


def family(name: str) -> str:
    if name.startswith("diffusers"):
        return "diffusers"
    return "fewer steps" if name.startswith("dense") else "Tamias"


def points(paths):
    for path in paths:
        for row in json.loads(path.read_text())["table"]:
            if row["psnr"] < 90:  # a picture compared with itself is no point
                yield family(row["candidate"]), row["candidate"], row["speedup"], row["psnr"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    floor = "dB: the likeness asked of a shipped profile (pictures 28, films 26)"
    parser.add_argument("--floor", type=float, default=28, help=floor)
    arguments = parser.parse_args()

    figure, axes = plt.subplots(figsize=(9, 5.5), dpi=120)
    seen = set()
    drawn = []  # label positions so far: labels that would collide move down
    marked = []  # points so far: one that lies on another has no label of its own
    rows = sorted(points(arguments.inputs), key=lambda p: -p[3])
    fastest = max(row[2] for row in rows)
    for group, name, speedup, likeness in rows:
        label = None if group in seen else group
        seen.add(group)
        axes.scatter(speedup, likeness, s=45, label=label, zorder=3, **STYLES[group])
        if any(abs(speedup - x) < 0.1 and abs(likeness - y) < 0.3 for x, y in marked):
            continue
        marked.append((speedup, likeness))
        short = name
        for prefix in ("diffusers, ", "diffusers ", "dense, ", "all layers sparse: "):
            short = short.removeprefix(prefix)
        height = likeness
        while any(abs(height - y) < 0.55 and abs(speedup - x) < 0.75 for x, y in drawn):
            height -= 0.3
        drawn.append((speedup, height))
        # The fastest are at the right edge: their labels stand on their left.
        side, shift = ("right", -0.05) if speedup > 0.75 * fastest else ("left", 0.05)
        place = (speedup + shift, height)
        axes.annotate(short, (speedup, likeness), place, fontsize=7, va="center", ha=side)
    axes.axhline(arguments.floor, color="#999999", linewidth=0.8, linestyle="--", zorder=1)
    axes.set_xlim(right=1.1 * fastest)
    axes.set_xlabel("speed-up over Tamias dense, times")
    axes.set_ylabel("PSNR to the dense 50-step result, dB")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.tight_layout()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output)


if __name__ == "__main__":
    main()
