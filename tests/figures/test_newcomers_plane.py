"""Newcomers stand where they were put, with their names, on the plane of the members."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.text import Annotation

from dynamo.figures.embedding_plane import EmbeddingPanel
from dynamo.figures.newcomers_plane import MOST_NAMES, NewcomersPanel, newcomers_plane
from dynamo.figures.style import INK, group_styles

GROUPS = ["big", "small", "big"]
PLANE = EmbeddingPanel(torch.tensor([[0.0, 1.0], [2.0, -1.0], [-2.0, 0.5]]), GROUPS, title="map", note="small print")


def stars(axes: Axes) -> PathCollection:
    return next(c for c in axes.collections if isinstance(c, PathCollection) and c.get_zorder() == 4)


def named(axes: Axes) -> list[str]:
    return [child.get_text() for child in axes.get_children() if isinstance(child, Annotation)]


def test_stars_stand_at_their_points_in_the_colours_of_the_groups_that_the_map_knows() -> None:
    points = torch.tensor([[1.0, 2.0, 9.0], [-1.0, 0.0, 9.0]])
    figure = newcomers_plane([NewcomersPanel(PLANE, points, ["x", "y"], ["small", "unheard of"])])
    (axes,) = figure.axes
    assert np.asarray(stars(axes).get_offsets()).tolist() == [[1.0, 2.0], [-1.0, 0.0]]
    colours = [group_styles(GROUPS)["small"].colour, INK]
    assert [tuple(c) for c in np.asarray(stars(axes).get_facecolors())] == [to_rgba(colour) for colour in colours]
    assert named(axes) == ["x", "y"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["big", "small", "newcomer"]


def test_a_map_of_one_dimension_has_its_newcomers_at_height_0() -> None:
    flat = EmbeddingPanel(torch.tensor([[0.0], [1.0]]), ["a", "b"])
    (axes,) = newcomers_plane([NewcomersPanel(flat, torch.tensor([[0.5]]), ["x"], ["a"])]).axes
    assert np.asarray(stars(axes).get_offsets()).tolist() == [[0.5, 0.0]]


def test_arrows_lead_from_where_they_were_to_their_stars() -> None:
    points, origins = torch.tensor([[1.0, 2.0], [-1.0, 0.0]]), torch.tensor([[0.0, 1.0, 7.0], [2.0, -1.0, 7.0]])
    (axes,) = newcomers_plane([NewcomersPanel(PLANE, points, ["x", "y"], ["big", "small"], origins)]).axes
    ends = [np.asarray(arrow.get_path().vertices)[:-1] for arrow in axes.patches]  # the last one closes the head
    starts = np.array([[0.0, 1.0], [2.0, -1.0]])
    assert len(ends) == 2
    for path, start, end in zip(ends, starts, points.numpy(), strict=True):
        way = end - start
        along = (path - start) @ way / (way @ way)
        assert 0 <= along.min() < 0.5 < along.max() <= 1  # shrunk by the sizes of the marks
    (bare,) = newcomers_plane([NewcomersPanel(PLANE, points, ["x", "y"], ["big", "small"])]).axes
    assert not bare.patches


def test_of_many_newcomers_those_with_room_are_named() -> None:
    count = MOST_NAMES + 1
    panel = NewcomersPanel(PLANE, torch.zeros(count, 2), [f"n{i}" for i in range(count)], ["big"] * count)
    (axes,) = newcomers_plane([panel]).axes
    assert len(named(axes)) < count


def test_maps_stand_beside_and_below_each_other() -> None:
    panel = NewcomersPanel(PLANE, torch.ones(1, 2), ["x"], ["big"])
    figure = newcomers_plane([panel, panel], [panel])
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]


@pytest.mark.parametrize(("points", "names", "groups"), [((2, 2), ["x"], ["a"]), ((2,), ["x", "y"], ["a", "b"])])
def test_parts_that_do_not_fit_are_refused(points: tuple[int, ...], names: list[str], groups: list[str]) -> None:
    with pytest.raises(ValueError, match="with one name and one group each"):
        newcomers_plane([NewcomersPanel(PLANE, torch.zeros(points), names, groups)])
    with pytest.raises(ValueError, match="no map to draw"):
        newcomers_plane([])
    with pytest.raises(ValueError, match="one for each of 1"):
        newcomers_plane([NewcomersPanel(PLANE, torch.zeros(1, 2), ["x"], ["a"], torch.zeros(2, 2))])
