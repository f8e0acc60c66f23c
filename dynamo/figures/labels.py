"""Names beside points, where there is room for them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from dynamo.figures.style import MUTED, FloatArray, root_figure

_PLACES = ((5, 0, "left"), (-5, 0, "right"), (0, 7, "center"), (0, -7, "center"))
_PLACES_FURTHER = ((5, 7, "left"), (5, -7, "left"), (-5, 7, "right"), (-5, -7, "right"))
_POINT_RADIUS = 4.0


def label_points(axes: Axes, points: FloatArray, names: Sequence[str]) -> list[Annotation]:
    """Which point is which model? Writes each name where it covers no point, name or frame.

    Call it last: it lays the figure out to see where there is room. A name without room is left away, for a
    wrong picture is worse than an incomplete one.

    Args:
        axes: where the points are drawn.
        points: `[N, 2]` in data coordinates.
        names: one per point.

    Returns:
        The names that found room.
    """
    figure = root_figure(axes)
    figure.draw_without_rendering()
    radius = _POINT_RADIUS * figure.dpi / 72
    taken = [Bbox([xy - radius, xy + radius]) for xy in axes.transData.transform(points)]
    frame, placed = axes.get_window_extent(), []
    for point, name in zip(points, names, strict=True):
        for x, y, align in _PLACES + _PLACES_FURTHER:
            label = axes.annotate(
                name,
                (float(point[0]), float(point[1])),
                xytext=(x, y),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=6.5,
                color=MUTED,
            )
            box = label.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not box.count_overlaps(taken):
                label.set_in_layout(False)
                taken.append(box)
                placed.append(label)
                break
            label.remove()
    return placed
