"""A finished map, and where networks lie on it that it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from dynamo.figures.callouts import call_out
from dynamo.figures.embedding_plane import EmbeddingPanel, draw_plane
from dynamo.figures.headings import Heading, group_handles, place_headings
from dynamo.figures.labels import label_points
from dynamo.figures.style import INK, FloatArray, Values, as_array, group_styles, new_figure

MOST_NAMES = 12
"""So many newcomers are called by their names in any case; of more, those that have room."""


@dataclass(frozen=True)
class NewcomersPanel:
    """What is drawn of one map and those who came later.

    Attributes:
        plane: the map's own members.
        points: newcomers in the same axes `[M, >= 2]`; one column is drawn at height 0.
        names: one per newcomer.
        groups: of the newcomers; one that the map knows has its colour, any other is dark.
        origins: where else each of them lies in these axes `[M, >= 2]`, such as where it was when it was a member; an
            arrow leads from there to its star. None: nowhere.

    Examples:
        >>> from dynamo.figures import EmbeddingPanel, NewcomersPanel
        >>> plane = EmbeddingPanel([[0, 0], [1, 0]], ["GRU", "LSTM"])
        >>> NewcomersPanel(plane, [[0.5, 1.0]], ["mine"], ["GRU"]).newcomers().tolist()
        [[0.5, 1.0]]
    """

    plane: EmbeddingPanel
    points: Values
    names: Sequence[str]
    groups: Sequence[str]
    origins: Values | None = None

    def newcomers(self) -> FloatArray:
        """The two columns that are drawn `[M, 2]`.

        Raises:
            ValueError: if points, names and groups do not fit together.
        """
        values = as_array(self.points)
        if values.ndim != 2 or 0 in values.shape or not len(values) == len(self.names) == len(self.groups):
            raise ValueError(f"points {list(values.shape)} must be [M, >= 2], with one name and one group each")
        return _two_columns(values)

    def starts(self) -> FloatArray | None:
        """Where the arrows begin `[M, 2]`.

        Raises:
            ValueError: if there is not one place for each newcomer.
        """
        if self.origins is None:
            return None
        values = as_array(self.origins)
        if values.ndim != 2 or 0 in values.shape or len(values) != len(self.names):
            raise ValueError(f"origins {list(values.shape)} must be [M, >= 2], one for each of {len(self.names)}")
        return _two_columns(values)


def newcomers_plane(*rows: Sequence[NewcomersPanel]) -> Figure:
    """Where do networks lie on a map that was made without them?

    Every newcomer is a star with its name, in the plane of the members alone, with an arrow from where else it lies;
    several maps stand beside (and below) each other.

    Raises:
        ValueError: no panel at all, or the parts of one do not fit together.

    Examples:
        >>> from dynamo.figures import EmbeddingPanel, NewcomersPanel, newcomers_plane, save_png
        >>> plane = EmbeddingPanel([[0, 0], [1, 0]], ["GRU", "LSTM"])
        >>> panel = NewcomersPanel(plane, [[0.5, 1.0]], ["mine"], ["GRU"])
        >>> save_png(newcomers_plane([panel]), "newcomers.png").name
        'newcomers.png'
    """
    if not rows or not all(rows):
        raise ValueError("there is no map to draw; give a panel at least")
    for row in rows:
        for panel in row:
            panel.newcomers(), panel.starts()  # wrong input is refused before anything is drawn
    most = max(map(len, rows))
    figure = new_figure(5.0 * most, 5.2 * len(rows))
    grid = figure.subplots(len(rows), most, squeeze=False)
    for row, places in zip(rows, grid, strict=True):
        for axes in places[len(row) :]:
            axes.set_axis_off()
        used = list(places[: len(row)])
        for axes, panel in zip(used, row, strict=True):
            draw_plane(axes, panel.plane)
            _draw_newcomers(axes, panel)
        place_headings(used, [_heading(panel) for panel in row])
    for row, places in zip(rows, grid, strict=True):
        for axes, panel in zip(places, row, strict=False):
            _name(axes, panel)
    return figure


def _draw_newcomers(axes: Axes, panel: NewcomersPanel) -> None:
    """One star for each."""
    points, styles = panel.newcomers(), group_styles(panel.plane.groups)
    colours = [styles[group].colour if group in styles else INK for group in panel.groups]
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=190,
        c=colours,
        marker="*",
        edgecolors=INK,
        linewidths=1.0,
        zorder=4,
        clip_on=False,
    )
    starts = panel.starts()
    for start, end in zip(starts, points, strict=True) if starts is not None else ():
        arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, shrinkA=3, shrinkB=6, color=INK)
        arrow.set(linewidth=0.9, alpha=0.75, zorder=3, clip_on=False)
        axes.add_patch(arrow)


def _name(axes: Axes, panel: NewcomersPanel) -> None:
    """The newcomers' names, beside marks and arrows."""
    points, starts = panel.newcomers(), panel.starts()
    along = [] if starts is None else [starts + share * (points - starts) for share in (0.25, 0.5, 0.75)]
    if len(points) <= MOST_NAMES:
        call_out(axes, points, panel.names, np.concatenate([panel.plane.points(), *along]), size=7.5)
    else:
        label_points(axes, points, panel.names)


def _two_columns(values: FloatArray) -> FloatArray:
    """The first two columns, the second 0 where there is none."""
    return np.pad(values[:, :2], ((0, 0), (0, max(0, 2 - values.shape[1]))))


def _heading(panel: NewcomersPanel) -> Heading:
    """The legend of the groups, and what a star is."""
    star = Line2D([], [], linestyle="", marker="*", markersize=11, color="white", markeredgecolor=INK, label="newcomer")
    return Heading([*group_handles(panel.plane.groups), star], panel.plane.title, panel.plane.note)
