"""The map shows the values, places and members it was given, and an X where the maximum is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import TwoSlopeNorm, to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from dynamo.figures.plane_map import DIVERGING, SEQUENTIAL, PlaneMap, plane_map, plane_map_row
from dynamo.figures.style import group_styles

X, Y = np.array([-1.0, 0.0, 1.0, 3.0]), np.array([0.0, 0.5, 1.0])
VALUES = torch.tensor([[0.5, 0.6, 0.7, 0.55], [0.6, 0.9, 1.1, 0.8], [0.5, 0.7, 0.9, 0.6]])
PANEL = PlaneMap(X, Y, VALUES, torch.tensor([[0.0, 0.25], [2.0, 0.75], [1.0, 0.5]]), ["big", "small", "big"])


def _mesh(axes: Axes) -> QuadMesh:
    (mesh,) = (c for c in axes.collections if isinstance(c, QuadMesh))
    return mesh


def _scatter(axes: Axes) -> dict[object, PathCollection]:
    return {c.get_label(): c for c in axes.collections if isinstance(c, PathCollection)}


def _bar(axes: Axes) -> Axes:
    (bar,) = axes.child_axes
    return bar


def _fits(figure: Figure) -> bool:
    box = figure.get_tightbbox()
    return bool(box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= figure.get_figwidth() + 0.01) and bool(
        box.y1 <= figure.get_figheight() + 0.01
    )


def test_values_stand_in_their_rows_and_columns() -> None:
    (axes,) = plane_map(PANEL).axes
    mesh = _mesh(axes)
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(3, 4), VALUES)
    corners = np.asarray(mesh.get_coordinates())
    np.testing.assert_allclose(corners[0, :, 0], [-1.5, -0.5, 0.5, 2.0, 4.0])
    np.testing.assert_allclose(corners[:, 0, 1], [-0.25, 0.25, 0.75, 1.25])
    np.testing.assert_allclose([axes.get_xlim(), axes.get_ylim()], [[-1.5, 4.0], [-0.25, 1.25]])
    assert mesh.get_cmap().name == SEQUENTIAL
    assert (mesh.norm.vmin, mesh.norm.vmax) == pytest.approx((0.5, 1.1))


def test_members_stand_over_the_map_in_the_colours_of_their_groups() -> None:
    (axes,) = plane_map(PANEL).axes
    found = _scatter(axes)
    assert list(found) == ["big", "small"]
    np.testing.assert_allclose(found["big"].get_offsets(), [[0, 0.25], [1, 0.5]])
    np.testing.assert_allclose(found["small"].get_offsets(), [[2, 0.75]])
    for name, style in group_styles(PANEL.groups).items():
        np.testing.assert_allclose(found[name].get_facecolor()[0, :3], to_rgb(style.colour))
        assert found[name].get_path_effects()  # a dark rim outside the white one: seen on any colour
        assert found[name].get_zorder() > _mesh(axes).get_zorder()


@pytest.mark.parametrize("best", [[1.0, 0.5], [5.0, 0.5], [1.0, -3.0]])
def test_the_axes_hold_the_x_even_where_the_grid_does_not(best: list[float]) -> None:
    figure = plane_map(replace(PANEL, best=best, best_label="1.02"))
    (axes,) = figure.axes
    np.testing.assert_allclose(_scatter(axes)["best"].get_offsets(), [best])
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < best[0] < right
    assert bottom < best[1] < top
    assert (left <= -1.5, right >= 4.0, bottom <= -0.25, top >= 1.25) == (True,) * 4
    assert [text.get_text() for text in axes.texts] == ["1.02"]
    assert axes.texts[0].xy == tuple(best)  # type: ignore[attr-defined]


def test_a_member_outside_the_grid_is_seen() -> None:
    (axes,) = plane_map(replace(PANEL, members=[[-9.0, 0.5], [0.0, 9.0], [0.0, 0.0]])).axes
    assert axes.get_xlim()[0] < -9
    assert axes.get_ylim()[1] > 9


def test_the_x_alone_needs_no_word_and_none_is_drawn_without_a_maximum() -> None:
    (axes,) = plane_map(replace(PANEL, best=[1.0, 0.5])).axes
    assert "best" in _scatter(axes)
    assert len(axes.texts) == 0
    assert "best" not in _scatter(plane_map(PANEL).axes[0])


def test_colours_part_at_the_centre_whose_line_is_drawn() -> None:
    (axes,) = plane_map(replace(PANEL, centre=1.0, label="relative accuracy")).axes
    mesh = _mesh(axes)
    assert mesh.get_cmap().name == DIVERGING
    assert isinstance(mesh.norm, TwoSlopeNorm)
    assert float(mesh.norm(1.0)) == 0.5
    assert (mesh.norm.vmin, mesh.norm.vmax) == pytest.approx((0.5, 1.125))  # 0.1 above counts as a quarter of 0.5
    assert 1.0 in _bar(axes).get_yticks()
    assert _bar(axes).get_ylabel() == "relative accuracy"
    strong = [c for c in axes.collections if isinstance(c, ContourSet) and 1.0 in c.levels]
    assert [list(c.levels) for c in strong] == [[1.0]]


@pytest.mark.parametrize("centre", [None, 0.2, 0.5, 2.0])
def test_constant_values_and_values_on_one_side_of_the_centre_can_be_drawn(centre: float | None) -> None:
    for values in (VALUES, torch.full((3, 4), 0.5)):
        figure = plane_map(replace(PANEL, values=values, centre=centre))
        figure.draw_without_rendering()
        norm = _mesh(figure.axes[0]).norm
        assert norm.vmin is not None
        assert norm.vmax is not None
        assert norm.vmin <= float(values.min()) < float(values.max()) + 1e-9 <= norm.vmax + 1e-9
        assert norm.vmin < norm.vmax


def test_what_was_not_computed_is_blank() -> None:
    values = VALUES.clone()
    values[0, 1], values[2, 3] = float("nan"), float("inf")
    (axes,) = plane_map(replace(PANEL, values=values)).axes
    shown = np.ma.asarray(_mesh(axes).get_array()).reshape(3, 4)
    assert np.argwhere(np.ma.getmaskarray(shown)).tolist() == [[0, 1], [2, 3]]
    assert _mesh(axes).norm.vmax == pytest.approx(1.1)


def test_maps_stand_side_by_side_with_a_scale_each() -> None:
    other = replace(PANEL, values=10 * VALUES, groups=["c"] * 3, title="other", axis_name="θ", label="score")
    figure = plane_map_row([replace(PANEL, title="one", note="small print"), other])
    figure.draw_without_rendering()
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("one", "other")
    assert (left.get_xlabel(), right.get_ylabel()) == ("PC 1", "θ 2")
    assert [_mesh(axes).norm.vmax for axes in figure.axes] == pytest.approx([1.1, 11.0])
    assert [_bar(axes).get_ylabel() for axes in figure.axes] == ["test accuracy", "score"]
    assert left.get_window_extent().x1 < _bar(left).get_window_extent().x1 < right.get_window_extent().x0
    for axes in figure.axes:
        frame, scale = axes.get_window_extent(), _bar(axes).get_window_extent()
        assert (frame.y0, frame.y1) == pytest.approx((scale.y0, scale.y1))
    assert _fits(figure)


@pytest.mark.parametrize("stretch", [0.02, 0.5, 1.0, 40.0])
def test_the_plane_is_at_equal_scale_unless_it_would_be_a_strip(stretch: float) -> None:
    square = PlaneMap([0, 1, 2], [0, stretch, 2 * stretch], np.eye(3), [[1.0, stretch]], ["a"], title="t")
    figure = plane_map(square)
    figure.draw_without_rendering()
    box = figure.axes[0].get_window_extent()
    assert box.width / box.height == pytest.approx(float(np.clip(1 / stretch, 0.75, 2.0)), rel=1e-2)
    assert _fits(figure)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_groups_is_in_the_legend(count: int) -> None:
    groups = [f"group {i % count}" for i in range(14)]
    figure = plane_map(replace(PANEL, members=np.random.default_rng(0).uniform(size=(14, 2)), groups=groups))
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == groups[:count]
    assert _fits(figure)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"x": X[::-1]}, "x .* increasing"),
        ({"y": [0.5]}, "y .* two or more"),
        ({"values": VALUES.T}, r"values \[4, 3\] must be \[rows, columns\] = \[3, 4\]"),
        ({"values": torch.full((3, 4), torch.nan)}, "NaN everywhere"),
        ({"members": [[0.0, 1.0]]}, r"members \[1, 2\] .* not 3"),
        ({"members": [[0.0], [1.0], [2.0]]}, r"members \[3, 1\]"),
        ({"members": [[0.0, np.nan]] * 3}, "finite"),
        ({"best": [1.0]}, r"best \[1\]"),
        ({"best": [1.0, np.nan]}, "finite"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plane_map(replace(PANEL, **change))  # type: ignore[arg-type]


def test_refuses_an_empty_row() -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        plane_map_row([])
