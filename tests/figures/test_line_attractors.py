"""Lines stand on common axes with common colours, and the marks in the plane are named as the panels are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dynamo.figures.line_attractors import AttractorPanel, PlanePoints, line_attractors
from dynamo.figures.style import INK, group_styles

MEMBERS, GROUPS = [[0.5, 0.5], [1.0, 0.5], [-0.5, 0.25], [2.0, -1.0]], ["big", "small", "big", "small"]
PLANE = PlanePoints(
    MEMBERS,
    GROUPS,
    {
        "X": ([0.0, 2.0], "best"),
        "centre of big": (torch.tensor([0.0, 0.375]), "centroid"),
        "half way": ([0.75, 0.0], "interpolated"),
        "last": ([2.0, -1.0], "member"),
    },
    title="embedding",
)


def _panel(name: str, length: float, group: str | None = None, dims: int = 2, **options: object) -> AttractorPanel:
    share = np.linspace(-1, 1, 5)
    points = np.stack([length * share, 0.5 * share, 0.1 * share], 1)[:, :dims]
    return AttractorPanel(points, torch.tensor(length * share), name, group=group, **options)  # type: ignore[arg-type]


PANELS = [
    _panel("X", 1.0, note="dim 1.1, length 2.3"),
    _panel("centre of big", 2.0, "big"),
    _panel("half way", 4.0),
    _panel("last", 3.0, "small"),
]


@pytest.fixture(scope="module")
def drawn() -> Figure:
    """The picture that several tests look at."""
    figure = line_attractors(PLANE, PANELS, "logit")
    figure.draw_without_rendering()
    return figure


def _parts(figure: Figure) -> tuple[Axes, list[Axes], Axes]:
    """The plane, the panels, the scale of colours."""
    left, right = figure.subfigs
    (plane,) = left.axes
    *panels, bar = right.axes
    return plane, panels, bar


def _points(axes: Axes) -> PathCollection:
    (found,) = (c for c in axes.collections if isinstance(c, PathCollection))
    return found


def _marks(plane: Axes) -> dict[object, Line2D]:
    return {line.get_marker(): line for line in plane.lines if line.get_marker() not in (None, "None", "")}


def test_every_line_has_its_points_and_colours(drawn: Figure) -> None:
    _, panels, bar = _parts(drawn)
    assert len(panels) == 4
    for axes, panel in zip(panels, PANELS, strict=True):
        points, values = panel.arrays()
        np.testing.assert_allclose(_points(axes).get_offsets(), points)
        np.testing.assert_allclose(np.asarray(_points(axes).get_array()), values)
    assert bar.get_ylabel() == "logit"


def test_frames_and_colours_are_the_same_for_all(drawn: Figure) -> None:
    _, panels, bar = _parts(drawn)
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels}) == 1
    assert panels[0].get_xlim()[0] < -4 < 4 < panels[0].get_xlim()[1]
    assert {axes.get_aspect() for axes in panels} == {1.0}  # a tilt on the picture is a tilt of the line
    norms = [_points(axes).norm for axes in panels]
    assert {(norm.vmin, norm.vmax) for norm in norms} == {(-4.0, 4.0)}
    assert bar.get_ylim() == (-4, 4)
    box = panels[0].get_window_extent()
    assert box.height > 0.4 * box.width  # although the lines are eight times as long as high


def test_letters_join_marks_and_panels(drawn: Figure) -> None:
    plane, panels, _ = _parts(drawn)
    assert [axes.get_title() for axes in panels] == ["X", "A  centre of big", "B  half way", "C  last"]
    places = {text.get_text(): text.xy for text in plane.texts}  # type: ignore[attr-defined]
    assert places == {"X": (0, 2), "A": (0, 0.375), "B": (0.75, 0), "C": (2, -1)}
    styles = group_styles(GROUPS)
    assert [axes.title.get_color() for axes in panels] == [INK, styles["big"].colour, INK, styles["small"].colour]


def test_marks_stand_in_the_plane_by_kind(drawn: Figure) -> None:
    plane, _, _ = _parts(drawn)
    marks = _marks(plane)
    assert {marker: np.asarray(line.get_xydata()).tolist() for marker, line in marks.items()} == {
        "X": [[0, 2]],
        "*": [[0, 0.375]],
        "D": [[0.75, 0]],
        "o": [[2, -1]],
    }
    assert marks["*"].get_markerfacecolor() == group_styles(GROUPS)["big"].colour
    assert marks["o"].get_markerfacecolor() == "none"
    legend = plane.get_legend()
    assert legend is not None
    names = ["big", "small", "best on held-out items", "centroid", "interpolated", "chosen member"]
    assert [text.get_text() for text in legend.get_texts()] == names
    members = np.concatenate([c.get_offsets() for c in plane.collections if isinstance(c, PathCollection)])
    np.testing.assert_allclose(members, [MEMBERS[i] for i in (0, 2, 1, 3)])


def test_a_mark_without_panel_has_its_own_name_and_a_panel_needs_no_mark() -> None:
    plane = replace(PLANE, marks={"elsewhere": ([0.0, 0.0], "interpolated")})
    left, panels, _ = _parts(line_attractors(plane, PANELS[1:], "logit"))
    assert [text.get_text() for text in left.texts] == ["elsewhere"]
    assert panels[0].get_title() == "A  centre of big"
    assert len(_parts(line_attractors(replace(PLANE, marks={}), PANELS, "logit"))[0].texts) == 0


def test_letters_that_are_names_are_not_given_twice() -> None:
    panels = [_panel(name, 1.0) for name in ("A", "first", "C", "second")]
    titles = [axes.get_title() for axes in _parts(line_attractors(PLANE, panels, "logit"))[1]]
    assert titles == ["A", "B  first", "C", "D  second"]


def test_lines_in_three_dimensions() -> None:
    panels = [_panel(name, length, dims=3) for name, length in (("a", 1.0), ("b", 2.0))]
    figure = line_attractors(PLANE, panels, "logit")
    figure.draw_without_rendering()
    _, (first, second), _ = _parts(figure)
    assert {axes.name for axes in (first, second)} == {"3d"}
    for one, other in zip((first.get_xlim(), first.get_zlim()), (second.get_xlim(), second.get_zlim()), strict=True):  # type: ignore[attr-defined]
        assert one == other


def test_a_place_without_fixed_points_says_so() -> None:
    nothing = AttractorPanel(np.zeros((0, 2)), np.zeros(0), "none")
    _, panels, _ = _parts(line_attractors(PLANE, [PANELS[0], nothing], "logit"))
    assert [text.get_text() for text in panels[-1].texts] == ["no fixed point"]
    assert panels[-1].get_xlim() == panels[0].get_xlim()
    line_attractors(PLANE, [nothing], "logit").draw_without_rendering()
    lone = AttractorPanel(np.ones((1, 2)), np.zeros(1), "one")
    line_attractors(PLANE, [lone], "logit").draw_without_rendering()


@pytest.mark.parametrize(("count", "groups"), [(1, 1), (9, 2), (4, 7)])
def test_everything_is_inside_the_picture(count: int, groups: int) -> None:
    names = [f"a group of networks {i % groups}" for i in range(14)]
    plane = PlanePoints(np.random.default_rng(0).normal(size=(14, 2)), names, PLANE.marks, "title", "small print")
    note = "dim 1.1, length 2.3, 98 % converged"
    figure = line_attractors(plane, [_panel(f"panel {i}", i + 1, names[i], note=note) for i in range(count)], "logit")
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= -0.01
    assert box.x1 <= figure.get_figwidth() + 0.01
    assert box.y1 <= figure.get_figheight() + 0.01
    left, panels, bar = _parts(figure)
    notes = [axes.texts[0].get_window_extent() for axes in panels]
    assert not any(one.overlaps(other) for i, one in enumerate(notes) for other in notes[:i])
    assert left.get_window_extent().x1 < panels[0].get_window_extent().x0
    assert max(axes.get_window_extent().x1 for axes in panels) < bar.get_window_extent().x0


@pytest.mark.parametrize(
    ("panels", "complaint"),
    [
        ([], "1 to 26 panels"),
        ([PANELS[0], PANELS[0]], "different names"),
        ([PANELS[0], _panel("deep", 1.0, dims=3)], "all in three"),
        ([replace(PANELS[0], values=[1.0])], r'"X": points \[5, 2\] and values \[1\]'),
    ],
)
def test_refuses_panels_that_do_not_fit(panels: list[AttractorPanel], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        line_attractors(PLANE, panels, "logit")


def test_refuses_a_plane_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r'"here" \[3\] must be two'):
        line_attractors(replace(PLANE, marks={"here": ([1, 2, 3], "best")}), PANELS, "logit")
    with pytest.raises(ValueError, match='"here" is of the kind "worst", not one of best, centroid'):
        line_attractors(replace(PLANE, marks={"here": ([1, 2], "worst")}), PANELS, "logit")  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="one group each"):
        line_attractors(replace(PLANE, groups=["one"]), PANELS, "logit")
