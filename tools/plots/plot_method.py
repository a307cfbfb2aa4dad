#!/usr/bin/env python3
"""Draws docs/images/column_sparsity.png: which score entries dense, block-sparse and column-sparse attention compute.

    python tools/plots/plot_method.py docs/images/column_sparsity.png

A schematic on random data with a few important columns per query group. Needs numpy and matplotlib.
"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

ROWS, COLUMNS, GROUP, BLOCK = 48, 96, 12, 12
SHARE = 0.25  # of the entries computed by both sparse forms


def importance(random) -> np.ndarray:
    """Column importance per group, [groups, columns]: heavy-tailed, so that few columns matter."""
    return random.pareto(1.2, (ROWS // GROUP, COLUMNS))


def keep_top(scores: np.ndarray, count: int) -> np.ndarray:
    kept = np.zeros_like(scores, dtype=bool)
    np.put_along_axis(kept, np.argsort(-scores, axis=1)[:, :count], True, axis=1)
    return kept


def main(path: str):
    columns = importance(np.random.default_rng(4))
    blocks = columns.reshape(len(columns), -1, BLOCK).sum(-1)
    by_column = keep_top(columns, int(SHARE * COLUMNS))
    by_block = np.repeat(keep_top(blocks, int(SHARE * COLUMNS / BLOCK)), BLOCK, axis=1)
    panels = {
        "dense: every entry": np.ones_like(by_column),
        "blocks: neighbours come along": by_block,
        "columns: chosen one by one": by_column,
    }
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), dpi=130)
    for axis, (title, kept) in zip(axes, panels.items()):
        mass = (columns * kept).sum() / columns.sum()
        axis.imshow(np.repeat(kept, GROUP, axis=0), cmap="Oranges", vmin=0, vmax=1.6, aspect="auto")
        for edge in range(GROUP, ROWS, GROUP):
            axis.axhline(edge - 0.5, color="#444444", linewidth=0.8)
        axis.set_title(f"{title}\n{kept.mean():.0%} of the work, {mass:.0%} of the weight", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel("key columns")
    axes[0].set_ylabel("query rows, in groups")
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main(sys.argv[1])
