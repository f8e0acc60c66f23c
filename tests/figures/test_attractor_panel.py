"""Fixed points stand over the states they were given, in a frame that shows tilt and length as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize

from dynamo.figures.attractor_panel import AttractorPanel, common_limits, draw_attractor
from dynamo.figures.style import FloatArray, new_figure

NORM = Normalize(-3, 3)
FLAT = AttractorPanel(torch.tensor([[2.0, 0.0], [0.0, 0.1], [-2.0, 0.0]]), [3.0, 0.5, -2.0], "flat")
DEEP = AttractorPanel(np.array([[2.0, 0.0, 1.0], [0.0, 0.1, -1.0]]), [3.0, -2.0], "deep")
FRAME = np.array([[-3.0, 3.0], [-1.0, 1.0]])


def _draw(panel: AttractorPanel, ends: FloatArray = FRAME) -> Axes:
    axes = new_figure(3, 3).add_subplot(projection="3d" if len(ends) == 3 else None)
    draw_attractor(axes, panel, ends, NORM)
    axes.figure.figure.draw_without_rendering()
    return axes


def _points(axes: Axes) -> PathCollection:
    (found,) = (c for c in axes.collections if isinstance(c, PathCollection))
    return found


def test_points_stand_at_their_places_with_the_highest_value_on_top() -> None:
    axes = _draw(FLAT)
    np.testing.assert_allclose(_points(axes).get_offsets(), np.asarray(FLAT.points)[::-1], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(_points(axes).get_array()), [-2.0, 0.5, 3.0])
    assert _points(axes).norm is NORM
    assert (axes.get_xlim(), axes.get_ylim(), axes.get_aspect()) == ((-3, 3), (-1, 1), 1)
    assert axes.get_window_extent().width == pytest.approx(3 * axes.get_window_extent().height)


def test_paths_lie_faintly_below_apart_from_each_other_and_end_at_the_frame() -> None:
    paths = np.zeros((2, 3, 2))
    paths[:, :, 0] = [[0, 99, 1], [2, -2, np.nan]]
    axes = _draw(replace(FLAT, trajectories=paths))
    (line,) = axes.lines
    gap = [np.nan, np.nan]
    np.testing.assert_array_equal(line.get_xydata(), [[0, 0], gap, [1, 0], gap, [2, 0], [-2, 0], gap, gap])
    assert line.get_zorder() < _points(axes).get_zorder()
    assert line.get_alpha() is not None
    assert (line.get_linestyle(), line.get_marker()) == ("-", "None")


def test_lone_states_are_dots() -> None:
    (line,) = _draw(replace(FLAT, trajectories=torch.tensor([[0.0, 0.5], [9.0, 0.0], [1.0, -0.5]]))).lines
    shown = np.asarray(line.get_xydata())
    np.testing.assert_array_equal(shown[np.isfinite(shown).all(1)], [[0, 0.5], [1, -0.5]])
    assert (line.get_linestyle(), line.get_marker()) == ("None", ".")


def test_three_dimensions_keep_their_proportions_and_colours() -> None:
    ends = np.array([[-3.0, 3.0], [-1.0, 1.0], [-2.0, 2.0]])
    axes = _draw(replace(DEEP, trajectories=np.zeros((4, 5, 3))), ends)
    assert axes.name == "3d"
    assert (axes.get_xlim(), axes.get_zlim()) == ((-3, 3), (-2, 2))  # type: ignore[attr-defined]
    box = axes._box_aspect  # type: ignore[attr-defined]
    np.testing.assert_allclose(box / box[0], [1, 1 / 3, 2 / 3])
    assert not axes.collections[0].get_depthshade()  # type: ignore[attr-defined]


def test_one_frame_holds_all_points_but_need_not_hold_the_states() -> None:
    long = replace(FLAT, points=[[10.0, 1.0], [-4.0, -5.0], [0.0, 0.0]], trajectories=np.full((2, 2), 1e6))
    np.testing.assert_allclose(common_limits([FLAT, long]), [[-5.4, 11.4], [-5.78, 1.78]], atol=1e-9)


def test_a_line_that_is_level_has_room_to_see_that_it_is() -> None:
    ((left, right), (low, high)) = common_limits([FLAT])
    assert high - low == pytest.approx(0.45 * (right - left))
    assert (low + high) / 2 == pytest.approx(0.05)


def test_without_points_the_states_make_the_frame_or_nothing_does() -> None:
    empty = AttractorPanel(np.zeros((0, 2)), [], "empty")
    states = np.array([[0.0, 1.0], [10.0, 11.0], [np.nan, 0.0]])
    np.testing.assert_allclose(common_limits([replace(empty, trajectories=states)]), [[-1, 11], [0, 12]])
    for panels in ([empty], [replace(FLAT, points=np.ones((3, 2)))]):
        (left, right), (low, high) = common_limits(panels)
        assert left < right
        assert low < high
    assert [text.get_text() for text in _draw(empty).texts] == ["no fixed point"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"values": [1.0]}, r'"flat": points \[3, 2\] and values \[1\]'),
        ({"points": np.zeros((3, 1))}, r'"flat": points \[3, 1\]'),
        ({"points": np.zeros((3, 4))}, r'"flat": points \[3, 4\]'),
        ({"values": [np.nan, 0.0, 0.0]}, '"flat": leave away fixed points that are not finite'),
        ({"points": np.full((3, 2), np.inf)}, '"flat": leave away'),
        ({"trajectories": np.zeros((4, 3))}, r'"flat": trajectories \[4, 3\] must have the axes'),
        ({"trajectories": np.zeros(2)}, r'"flat": trajectories \[2\]'),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(FLAT, **change).background()  # type: ignore[arg-type]
