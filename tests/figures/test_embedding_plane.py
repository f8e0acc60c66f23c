"""The plane and its spectrum show the arrays they were given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynamo.figures.embedding_plane import MOST_BARS, embedding_plane
from dynamo.figures.style import group_styles

COORDINATES = torch.tensor([[0.0, 1.0, 9.0], [2.0, -1.0, 9.0], [-2.0, 0.5, 9.0], [1.0, 1.5, 9.0]])
GROUPS = ["big", "small", "big", "small"]
SPECTRUM = torch.tensor([0.7, 0.2, 0.1])


def _scatter(axes: Axes) -> dict[object, PathCollection]:
    return {c.get_label(): c for c in axes.collections if isinstance(c, PathCollection)}


def _dotted(axes: Axes) -> list[float]:
    return [float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_linestyle() == ":"]


def _paths(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_transform() == axes.transData]


def _draw(**options: object) -> tuple[Figure, Axes, Axes]:
    figure = embedding_plane(COORDINATES, GROUPS, SPECTRUM, **options)  # type: ignore[arg-type]
    plane, spectrum = figure.axes
    return figure, plane, spectrum


def test_points_stand_at_their_coordinates_in_the_colours_of_their_groups() -> None:
    _, plane, _ = _draw()
    found = _scatter(plane)
    assert list(found) == ["big", "small"]
    np.testing.assert_allclose(found["big"].get_offsets(), [[0, 1], [-2, 0.5]])
    np.testing.assert_allclose(found["small"].get_offsets(), [[2, -1], [1, 1.5]])
    for name, style in group_styles(GROUPS).items():
        np.testing.assert_allclose(found[name].get_facecolor()[:, :3], [to_rgba(style.colour)[:3]] * 2)
    assert plane.get_aspect() == 1


def test_opacity_belongs_to_its_point() -> None:
    _, plane, _ = _draw(opacity=[0.1, 0.2, 0.3, 1.0])
    found = _scatter(plane)
    np.testing.assert_allclose(found["big"].get_facecolor()[:, 3], [0.1, 0.3])
    np.testing.assert_allclose(found["small"].get_facecolor()[:, 3], [0.2, 1.0])


def test_trajectories_join_their_points_in_order() -> None:
    _, plane, _ = _draw(trajectories=[[2, 0], [1, 3]])
    first, second = _paths(plane)
    np.testing.assert_allclose(first.get_xydata(), [[-2, 0.5], [0, 1]])
    np.testing.assert_allclose(second.get_xydata(), [[2, -1], [1, 1.5]])
    assert first.get_color() == group_styles(GROUPS)["big"].colour
    assert second.get_color() == group_styles(GROUPS)["small"].colour


def test_spectrum_has_a_bar_per_component_and_the_line_after_the_last_one_needed() -> None:
    _, plane, spectrum = _draw(dims_95=3)
    heights = [bar.get_height() for bar in spectrum.patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(heights, SPECTRUM)
    assert _dotted(spectrum) == [3.5]
    assert [text.get_text() for text in spectrum.texts] == ["95 % in 3"]
    assert plane.get_xlabel() == "PC 1 (70 %)"
    assert plane.get_ylabel() == "PC 2 (20 %)"


def test_long_spectrum_is_cut_but_never_before_the_line() -> None:
    for dims, bars in ((3, MOST_BARS), (30, 32)):
        figure = embedding_plane(COORDINATES, GROUPS, torch.full((64,), 1 / 64), dims_95=dims)
        assert len(figure.axes[1].patches) == bars
        assert _dotted(figure.axes[1]) == [dims + 0.5]
        assert figure.axes[1].get_xlim()[1] > dims + 0.5


def test_title_note_legend_and_names() -> None:
    figure, plane, _ = _draw(title="Sizes", note="silhouette 0.4 (p = 0.01)", names=list("abcd"))
    assert plane.get_title() == "Sizes"
    legend = plane.get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "silhouette 0.4 (p = 0.01)"
    assert [text.get_text() for text in legend.get_texts()] == ["big", "small"]
    assert sorted(text.get_text() for text in plane.texts) == list("abcd")
    figure.draw_without_rendering()
    above, frame, title = (
        legend.get_window_extent(),
        plane.get_window_extent(),
        plane.title.get_window_extent(),
    )
    assert frame.y1 <= above.y0
    assert above.y1 <= title.y0
    assert title.y1 <= figure.bbox.y1


def test_without_spectrum_there_is_only_the_plane() -> None:
    figure = embedding_plane(COORDINATES, GROUPS, axis_name="MDS")
    (plane,) = figure.axes
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("MDS 1", "MDS 2")


def test_embedding_before_training_and_of_one_dimension() -> None:
    figure = embedding_plane(torch.zeros(4, 2), GROUPS, torch.zeros(2), dims_95=0)
    figure.draw_without_rendering()
    assert _dotted(figure.axes[1]) == []
    line = embedding_plane(torch.tensor([[1.0], [2.0]]), ["a", "b"], [1.0], dims_95=1)
    np.testing.assert_allclose(_scatter(line.axes[0])["b"].get_offsets(), [[2, 0]])
    assert line.axes[0].get_ylabel() == "PC 2"


def test_many_long_groups_stay_inside_the_picture() -> None:
    groups = [f"vanilla RNN, {size} % of IMDB" for size in (100, 50, 25, 12, 6)] * 2
    figure = embedding_plane(torch.randn(10, 2), groups, [0.5, 0.5], dims_95=2, title="Sizes")
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="one group each"):
        embedding_plane(COORDINATES, GROUPS[:3])
    with pytest.raises(ValueError, match="3 names for 4 points"):
        embedding_plane(COORDINATES, GROUPS, names=list("abc"))
    for opacity in ([0.0, 1, 1, 1], [1.0, 1, 1], [2.0, 1, 1, 1]):
        with pytest.raises(ValueError, match="opacity"):
            embedding_plane(COORDINATES, GROUPS, opacity=opacity)
