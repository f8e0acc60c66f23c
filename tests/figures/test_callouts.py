"""Every name is written, inside the frame, and covers what it must only where there is no other way."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from dynamo.figures.callouts import call_out
from dynamo.figures.style import FloatArray, new_figure

NOTHING = np.zeros((0, 2))


def _axes() -> Axes:
    axes = new_figure(4, 4).subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return axes


def _box(label: Annotation) -> Bbox:
    """Of the letters alone, without the line to the point."""
    label.get_window_extent()  # moves the letters to where they belong
    return Text.get_window_extent(label)


def _covered(axes: Axes, label: Annotation, points: FloatArray) -> int:
    box = _box(label)
    return sum(box.contains(x, y) for x, y in axes.transData.transform(points))


def test_names_keep_off_each_other_the_points_and_the_frame() -> None:
    axes = _axes()
    points = np.array([[0.01, 0.5], [0.99, 0.5], [0.5, 0.99], [0.5, 0.45], [0.52, 0.46], [0.5, 0.5]])
    names = ["left", "right", "top", "one", "two", "three"]
    labels = call_out(axes, points, names, NOTHING)
    assert [label.get_text() for label in labels] == names
    assert [label.xy for label in labels] == [tuple(point) for point in points]
    boxes, frame = [_box(label) for label in labels], axes.get_window_extent()
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in boxes)
    assert not any(_covered(axes, label, points) for label in labels)


def test_two_points_close_together_have_their_names_apart() -> None:
    one, other = call_out(_axes(), np.array([[0.2, 0.5], [0.2, 0.515]]), ["first", "second"], NOTHING)
    assert not _box(one).overlaps(_box(other))


def test_a_name_goes_where_no_obstacle_is() -> None:
    point = np.array([[0.5, 0.5]])
    (free,) = call_out(_axes(), point, ["name"], NOTHING)
    assert free.get_position()[0] > 0
    right = np.stack([np.linspace(0.52, 0.8, 30), np.full(30, 0.5)], 1)
    axes = _axes()
    (moved,) = call_out(axes, point, ["name"], right)
    assert moved.get_position() != free.get_position()
    assert _covered(axes, moved, right) == 0


def test_a_name_without_room_nearby_is_written_farther_off_with_a_line() -> None:
    near = np.stack(np.meshgrid(np.linspace(0.4, 0.6, 15), np.linspace(0.45, 0.55, 15)), -1).reshape(-1, 2)
    far, close = call_out(_axes(), np.array([[0.5, 0.5], [0.1, 0.1]]), ["far", "close"], near)
    assert far.arrow_patch is not None
    assert close.arrow_patch is None


def test_all_names_are_written_even_over_each_other() -> None:
    labels = call_out(_axes(), np.full((40, 2), 0.5), [f"name {i}" for i in range(40)], NOTHING)
    assert len(labels) == 40
