"""Names stand where there is room, and cover nothing."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from dynamo.figures.labels import label_points
from dynamo.figures.style import FloatArray, new_figure


def _points(count: int) -> FloatArray:
    return np.random.default_rng(0).uniform(size=(count, 2))


def test_every_name_is_placed_where_points_are_few() -> None:
    axes = new_figure(5, 5).subplots()
    points = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])
    axes.scatter(*points.T)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    labels = label_points(axes, points, ["a", "b", "c"])
    assert [label.get_text() for label in labels] == ["a", "b", "c"]
    assert [label.xy for label in labels] == [tuple(point) for point in points]


def test_names_cover_neither_points_nor_names_nor_leave_the_frame() -> None:
    axes = new_figure(4, 4).subplots()
    points = _points(60)
    axes.scatter(*points.T)
    labels = label_points(axes, points, [f"member-{i}" for i in range(60)])
    assert 5 < len(labels) < 60
    boxes, frame = [label.get_window_extent() for label in labels], axes.get_window_extent()
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert not any(box.contains(x, y) for box in boxes for x, y in axes.transData.transform(points))
    assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in boxes)
    assert len(axes.texts) == len(labels)
