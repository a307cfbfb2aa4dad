"""tools/plots/pair_sheet.py puts dense results above accelerated ones, a folder a column."""

import numpy as np
from pair_sheet import GAP, pair_sheet
from PIL import Image


def test_rows_are_dense_and_accelerated(tmp_path):
    for i, folder in enumerate(("a", "b", "c")):
        (tmp_path / folder).mkdir()
        for name, color in (("dense", (250, 40 * i, 0)), ("accelerated", (0, 40 * i, 250))):
            Image.new("RGB", (64, 64), color).save(tmp_path / folder / f"{name}.png")
    sheet = np.asarray(pair_sheet([tmp_path / name for name in "abc"], 32))
    assert sheet.shape == (64 + GAP, 96 + 2 * GAP, 3)
    for column in range(3):
        left = column * (32 + GAP)
        assert (sheet[:32, left : left + 32] == (250, 40 * column, 0)).all()
        assert (sheet[32 + GAP :, left : left + 32] == (0, 40 * column, 250)).all()
    assert (sheet[32 : 32 + GAP] == 255).all()
