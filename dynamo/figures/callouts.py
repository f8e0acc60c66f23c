"""Names that must be written, each where it covers least."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from dynamo.figures.style import INK, FloatArray, root_figure

_SIDES: tuple[tuple[int, int], ...] = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_DISTANCES = (8.5, 15.0, 23.0)
_ALIGN_X = {1: "left", 0: "center", -1: "right"}
_ALIGN_Y = {1: "bottom", 0: "center", -1: "top"}
_POINT_RADIUS = 4.0


def call_out(
    axes: Axes, points: FloatArray, names: Sequence[str], obstacles: FloatArray, *, size: float = 8.5
) -> list[Annotation]:
    """Which marks are these? Writes every name beside its point, on the side where it covers least.

    Unlike `label_points`, which leaves a name away where there is no room, this writes all of them; a name that
    had to move off is joined to its point by a thin line. Call it last: it lays the figure out to see where
    there is room.

    Args:
        axes: where the points are drawn.
        points: `[P, 2]` in data coordinates.
        names: one per point.
        obstacles: what names should not cover, beside the points themselves `[M, 2]`.
        size: of the letters, in points.
    """
    figure = root_figure(axes)
    figure.draw_without_rendering()
    radius = _POINT_RADIUS * figure.dpi / 72
    places = axes.transData.transform(np.concatenate([points, obstacles]))
    dots = [Bbox([place - radius, place + radius]) for place in places]
    frame, written = axes.get_window_extent(), []
    taken: list[Bbox] = []
    for point, name in zip(points, names, strict=True):
        tried: list[tuple[float, tuple[int, int], float, Bbox]] = []
        for distance, side in product(_DISTANCES, _SIDES):
            label = _write(axes, point, name, side, distance, size)
            box = label.get_window_extent()
            label.remove()
            outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
            cost = box.count_overlaps(dots) + 10 * box.count_overlaps(taken) + 20 * outside + 0.02 * distance
            tried.append((cost, side, distance, box))
        _, side, distance, box = min(tried, key=lambda found: found[0])
        taken.append(box)
        label = _write(axes, point, name, side, distance, size, leader=distance > _DISTANCES[0])
        label.set_in_layout(False)
        written.append(label)
    return written


def _write(
    axes: Axes,
    point: FloatArray,
    name: str,
    side: tuple[int, int],
    distance: float,
    size: float,
    leader: bool = False,
) -> Annotation:
    """The name on one side of its point, so many points away from it."""
    line = {"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    length = distance / np.hypot(*side)
    return axes.annotate(
        name,
        (float(point[0]), float(point[1])),
        xytext=(side[0] * length, side[1] * length),
        textcoords="offset points",
        ha=_ALIGN_X[side[0]],
        va=_ALIGN_Y[side[1]],
        fontsize=size,
        fontweight="bold",
        color=INK,
        zorder=6,
        arrowprops=line if leader else None,
        path_effects=[withStroke(linewidth=2.6, foreground="white")],
    )
