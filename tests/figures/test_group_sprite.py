"""Every member has a cell of its own with its group's colour in the middle, and nothing at the rim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from dynamo.figures.group_sprite import CELL, LARGEST, save_group_sprite
from dynamo.figures.style import group_styles


@pytest.mark.parametrize("groups", [["a"], ["a", "b", "a", "c", "b"], [f"group {i}" for i in range(9)]])
def test_every_cell_shows_its_members_group(tmp_path: Path, groups: list[str]) -> None:
    assert save_group_sprite(groups, tmp_path / "sprite.png")
    picture, side = imread(tmp_path / "sprite.png"), int(np.ceil(np.sqrt(len(groups))))
    assert picture.shape == (side * CELL, side * CELL, 4)
    styles = group_styles(groups)
    for cell in range(side**2):
        row, column = divmod(cell, side)
        part = picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        assert part[[0, 0, -1, -1], [0, -1, 0, -1], 3].max() == 0  # the corners show what lies behind
        if cell < len(groups):
            assert part[CELL // 2, CELL // 2] == pytest.approx([*to_rgb(styles[groups[cell]].colour), 1], abs=0.01)
        else:
            assert part[..., 3].max() == 0


def test_too_many_members_have_none(tmp_path: Path) -> None:
    assert not save_group_sprite(["a"] * (LARGEST**2 + 1), tmp_path / "sprite.png")
    assert not list(tmp_path.iterdir())


def test_the_same_groups_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        save_group_sprite(["a", "b"], tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
