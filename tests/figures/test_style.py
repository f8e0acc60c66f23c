"""Colours are stable and distinct; pictures are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from dynamo.figures.style import as_array, group_styles, new_figure, root_figure, save_png


def test_styles_go_by_first_appearance_and_do_not_depend_on_what_follows() -> None:
    few = group_styles(["b", "a", "b"])
    more = group_styles(["b", "b", "a", "c"])
    assert list(few) == ["b", "a"]
    assert list(more) == ["b", "a", "c"]
    assert {name: more[name] for name in few} == few


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_every_group_has_a_colour_of_its_own(count: int) -> None:
    styles = group_styles([f"group {i}" for i in range(count)])
    assert len({style.colour for style in styles.values()}) == count


def test_root_figure_is_found_from_a_subfigure() -> None:
    figure = new_figure(2, 2)
    assert root_figure(figure.subfigures(1, 2)[0].subplots()) is figure


def test_arrays_from_tensors_and_lists() -> None:
    theta = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.bfloat16))
    assert as_array(theta).tolist() == as_array([1, 2]).tolist() == [1.0, 2.0]
    assert as_array(theta).dtype == np.float64


def test_png_is_written_with_its_folders_and_replaces_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "picture.png"
    save_png(new_figure(2, 1), path)
    assert save_png(new_figure(3, 1), path) == path
    assert imread(path).shape[:2] == (150, 450)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_png(new_figure(2, 1), tmp_path / "picture.png")
    before = path.read_bytes()

    def fail(self: Figure, file: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_png(new_figure(3, 1), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
