"""A quantity over the plane of the embedding, with the base models as points and an X at its maximum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from dynamo.figures.callouts import call_out
from dynamo.figures.headings import Heading, group_handles, place_headings
from dynamo.figures.style import (
    INK,
    FloatArray,
    GroupStyle,
    Values,
    as_array,
    group_styles,
    new_figure,
    plain_axes,
    root_figure,
)

SEQUENTIAL = "cividis"
DIVERGING = "PuOr"
_SMALLER_SIDE = 0.25
"""A side of a diverging scale is at least this share of the other, or the last strong colour would mean nothing."""
_CROSS = "X"
_RATIOS = (0.75, 2.0)
"""Width to height of the axes. A plane between the two is drawn at equal scale; a longer one would be a strip."""
_SIDE = 3.9


@dataclass(frozen=True)
class PlaneMap:
    """What is drawn of one quantity over the plane.

    Attributes:
        x: where the columns of `values` lie, increasing `[columns]`.
        y: where its rows lie, increasing `[rows]`.
        values: the quantity at every grid point `[rows, columns]`; blank where it is not finite (not computed).
        members: base models in the plane `[N, 2]`.
        groups: what each of them is coloured by.
        best: where the maximum is `[2]`, not necessarily on the grid; None leaves the X away.
        best_label: written beside the X if it says more than "X".
        title: short.
        note: numbers for small print below the title.
        label: what the colour means, such as "test accuracy / best base model's".
        centre: the value that two colours part at, such as 1.0 for relative accuracy; None for one scale of
            colours from the smallest to the largest value.
        axis_name: what the axes are called before their number.

    Examples:
        >>> from dynamo.figures import PlaneMap
        >>> panel = PlaneMap([0, 1, 2], [0, 1], [[0.8, 0.9, 0.8], [0.7, 0.8, 0.7]], [[0.5, 0.5]], ["GRU"])
        >>> x, y, values = panel.grid()
        >>> values.shape, panel.cross()  # rows, columns; no X
        ((2, 3), None)
    """

    x: Values
    y: Values
    values: Values
    members: Values
    groups: Sequence[str]
    best: Values | None = None
    best_label: str = _CROSS
    title: str | None = None
    note: str | None = None
    label: str = "test accuracy"
    centre: float | None = None
    axis_name: str = "PC"

    def grid(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The columns, the rows and the values between them.

        Raises:
            ValueError: if they do not fit together, or no value is finite.
        """
        x, y, values = as_array(self.x), as_array(self.y), as_array(self.values)
        for name, places in (("x", x), ("y", y)):
            if places.ndim != 1 or len(places) < 2 or not (np.diff(places) > 0).all():
                raise ValueError(f"{name} {list(places.shape)} must be two or more increasing places on its axis")
        if values.shape != (len(y), len(x)):
            raise ValueError(f"values {list(values.shape)} must be [rows, columns] = {[len(y), len(x)]}")
        if not np.isfinite(values).any():
            raise ValueError("values of the map are NaN everywhere: compute at least one grid point")
        return x, y, values

    def points(self) -> FloatArray:
        """The base models in the plane `[N, 2]`.

        Raises:
            ValueError: if they are not in a plane, or have not one group each.
        """
        return plane_points(self.members, self.groups)

    def cross(self) -> FloatArray | None:
        """Where the X stands `[2]`.

        Raises:
            ValueError: if it is not one point of the plane.
        """
        if self.best is None:
            return None
        best = as_array(self.best)
        if best.shape != (2,) or not np.isfinite(best).all():
            raise ValueError(f"best {list(best.shape)} must be two finite numbers: one point of the plane")
        return best


def plane_map(panel: PlaneMap) -> Figure:
    """Where in the embedding are the good networks, and is the best of them a base model?

    Raises:
        ValueError: if the parts of the panel do not fit together.

    Source: Figures 6 and 11 of the paper (one map).

    Examples:
        >>> from dynamo.figures import PlaneMap, plane_map
        >>> values = [[0.8, 0.9, 0.8], [0.7, 0.8, 0.7]]
        >>> panel = PlaneMap([0, 1, 2], [0, 1], values, members=[[0.5, 0.5]], groups=["GRU"], best=[1, 0], title="imdb")
        >>> figure = plane_map(panel)
        >>> figure.axes[0].get_title(), figure.axes[0].child_axes[0].get_ylabel()
        ('imdb', 'test accuracy')
    """
    return plane_map_row([panel])


def plane_map_row(panels: Sequence[PlaneMap]) -> Figure:
    """How does a quantity lie over several embeddings? Maps side by side, each with its own scale of colours.

    Raises:
        ValueError: if there is no panel, or the parts of one do not fit together.

    Source: Figure 6 of the paper.

    Examples:
        >>> from dynamo.figures import PlaneMap, plane_map_row
        >>> values = [[0.8, 0.9, 0.8], [0.7, 0.8, 0.7]]
        >>> panels = [PlaneMap([0, 1, 2], [0, 1], values, [[0.5, 0.5]], ["GRU"], title=task) for task in ("a", "b")]
        >>> [axes.get_title() for axes in plane_map_row(panels).axes]
        ['a', 'b']
    """
    if not panels:
        raise ValueError("a row of maps needs at least one panel")
    highest = max(_SIDE / _drawn_ratio(limits(panel)) for panel in panels)
    figure = new_figure((_SIDE + 1.5) * len(panels), min(1.15 * _SIDE, highest) + 1.2)
    row = list(figure.subplots(1, len(panels), squeeze=False)[0])
    for axes, panel in zip(row, panels, strict=True):
        draw_map(axes, panel)
        draw_members(axes, panel.points(), panel.groups, group_styles(panel.groups))
        draw_cross(axes, panel.cross())
        frame_plane(axes, limits(panel), panel.axis_name)
    place_headings(row, [Heading(group_handles(p.groups, INK), p.title, p.note) for p in panels])
    for axes, panel in zip(row, panels, strict=True):
        cross = panel.cross()
        if cross is not None and panel.best_label not in ("", _CROSS):
            call_out(axes, cross[None], [panel.best_label], panel.points())
    return figure


def draw_map(axes: Axes, panel: PlaneMap) -> QuadMesh:
    """Draws the values as a heat map, with contours and a scale of colours to the right."""
    x, y, values = panel.grid()
    shown = np.ma.masked_invalid(values)
    norm, colours = colour_scale(shown.compressed(), panel.centre)
    mesh = axes.pcolormesh(x, y, shown, shading="nearest", cmap=colours, norm=norm, zorder=0, rasterized=True)
    bar = add_colour_bar(axes, mesh, panel.label)
    low, high = float(shown.min()), float(shown.max())
    levels = [level for level in MaxNLocator(6).tick_values(low, high) if low < level < high]
    if panel.centre is not None:
        sides = (_ticks(panel.centre, float(end or 0)) for end in (norm.vmin, norm.vmax))
        bar.set_yticks(sorted({panel.centre}.union(*sides)))
        if low < panel.centre < high:
            axes.contour(x, y, shown, levels=[panel.centre], colors=INK, linewidths=1.1, zorder=1)
            levels = [level for level in levels if not np.isclose(level, panel.centre)]
    if levels:
        axes.contour(x, y, shown, levels=levels, colors=INK, linewidths=0.4, alpha=0.35, zorder=1)
    return mesh


def add_colour_bar(axes: Axes, mesh: QuadMesh, label: str) -> Axes:
    """The scale of colours, as high as the axes even where their shape is fixed."""
    inside = axes.inset_axes((1.03, 0, 0.045, 1))
    root_figure(axes).colorbar(mesh, cax=inside)
    inside.set_ylabel(label, fontsize=8.5, color=INK)
    inside.tick_params(labelsize=8, length=2)
    return inside


def colour_scale(values: FloatArray, centre: float | None) -> tuple[Normalize, Colormap | str]:
    """Which colours do these values get? Around `centre` both sides use their whole range of colours."""
    low, high = float(values.min()), float(values.max())
    if centre is None:
        return Normalize(low, high if high > low else low + 1), SEQUENTIAL
    below, above = max(0.0, centre - low), max(0.0, high - centre)
    widest = max(below, above) or 1.0
    sides = [max(side, _SMALLER_SIDE * widest) for side in (below, above)]
    return TwoSlopeNorm(centre, centre - sides[0], centre + sides[1]), DIVERGING


def draw_members(axes: Axes, points: FloatArray, groups: Sequence[str], styles: Mapping[str, GroupStyle]) -> None:
    """Draws base models, one collection per group, white and black around each so that they show on any colour."""
    many = len(points) > 60
    for name, style in styles.items():
        chosen = np.array([group == name for group in groups])
        axes.scatter(
            points[chosen, 0],
            points[chosen, 1],
            s=20 if many else 40,
            c=style.colour,
            marker=style.marker,
            edgecolors="white",
            linewidths=0.8,
            label=name,
            zorder=3,
            path_effects=[withStroke(linewidth=2.0, foreground=INK)],
        )


def draw_cross(axes: Axes, best: FloatArray | None) -> None:
    """Marks the maximum with an X."""
    if best is None:
        return
    around = [withStroke(linewidth=2.6, foreground=INK)]
    axes.scatter(
        best[:1],
        best[1:],
        s=130,
        c="white",
        marker=_CROSS,
        linewidths=0,
        zorder=4,
        label="best",
        path_effects=around,
        clip_on=False,  # at the edge of the grid it is still seen whole
    )


def limits(panel: PlaneMap) -> FloatArray:
    """The part of the plane that holds the grid, the base models and the X: `[[left, right], [bottom, top]]`."""
    found = []
    cross = panel.cross()
    for axis, places in enumerate(panel.grid()[:2]):
        ends = [places[0] - (places[1] - places[0]) / 2, places[-1] + (places[-1] - places[-2]) / 2]
        others = panel.points()[:, axis]
        others = np.append(others, cross[axis]) if cross is not None else others
        margin = 0.05 * (ends[1] - ends[0])  # a mark that lies outside is seen whole
        low, high = float(others.min()) - margin, float(others.max()) + margin
        inside = (others >= ends[0]).all(), (others <= ends[1]).all()
        found.append([ends[0] if inside[0] else low, ends[1] if inside[1] else high])
    return np.array(found)


def frame_plane(axes: Axes, ends: FloatArray, axis_name: str) -> None:
    """Sets what is seen of the plane, at equal scale on both axes unless that makes a strip."""
    axes.set(xlim=ends[0], ylim=ends[1])
    axes.set_box_aspect(1 / _drawn_ratio(ends))
    axes.set_anchor("N")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{axis_name} 1")
    axes.set_ylabel(f"{axis_name} 2")
    plain_axes(axes)


def plane_points(members: Values, groups: Sequence[str]) -> FloatArray:
    """Base models in the plane `[N, 2]`.

    Raises:
        ValueError: if they are not in a plane, or have not one group each.
    """
    points = as_array(members)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or len(points) != len(groups):
        raise ValueError(f"members {list(points.shape)} must be [N, 2], with one group each, not {len(groups)}")
    if not np.isfinite(points).all():
        raise ValueError("members must be finite: a NaN has no place in the plane")
    return points


def _drawn_ratio(ends: FloatArray) -> float:
    """Width to height of the axes: that of the plane, as far as it can be."""
    width, height = ends[:, 1] - ends[:, 0]
    return float(np.clip(width / height, *_RATIOS))


def _ticks(centre: float, end: float) -> list[float]:
    """Round numbers on one side of a diverging scale, clear of its centre."""
    low, high = min(centre, end), max(centre, end)
    found = [float(tick) for tick in MaxNLocator(3).tick_values(low, high) if low <= tick <= high]
    return [tick for tick in found if abs(tick - centre) > 0.15 * (high - low)]
