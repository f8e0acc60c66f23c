"""The plane of the embedding as a space of line attractors: points of interest, and the attractor at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from textwrap import fill
from typing import Literal, get_args

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from dynamo.figures.attractor_panel import AttractorPanel as AttractorPanel  # used and offered here too
from dynamo.figures.attractor_panel import common_limits, draw_attractor
from dynamo.figures.callouts import call_out
from dynamo.figures.embedding_plane import EmbeddingPanel, draw_plane
from dynamo.figures.headings import Heading, group_handles, place_headings
from dynamo.figures.plane_map import DIVERGING, plane_points
from dynamo.figures.style import INK, MUTED, FloatArray, Values, as_array, group_styles, new_figure

Kind = Literal["best", "centroid", "interpolated", "member"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MARKS: Mapping[Kind, tuple[str, float, str]] = {
    "best": ("X", 11.0, "best on held-out items"),
    "centroid": ("*", 15.0, "centroid"),
    "interpolated": ("D", 7.0, "interpolated"),
    "member": ("o", 11.0, "chosen member"),
}
"""Marker, size in points, and what the legend calls it."""


@dataclass(frozen=True)
class PlanePoints:
    """What is drawn of the plane beside the attractors.

    Attributes:
        members: base models in the plane `[N, 2]`.
        groups: what each of them is coloured by.
        marks: points of interest by name: where they are `[2]`, and of which kind.
        title: short.
        note: numbers for small print below the title.
        axis_name: what the axes are called before their number.

    Examples:
        >>> from dynamo.figures import PlanePoints
        >>> plane = PlanePoints([[1.0, 0.0], [0.8, 0.2]], ["GRU", "GRU"], marks={"X": ([0.9, 0.1], "best")})
        >>> plane.places()
        array([[0.9, 0.1]])
    """

    members: Values
    groups: Sequence[str]
    marks: Mapping[str, tuple[Values, Kind]] = field(default_factory=dict)
    title: str | None = None
    note: str | None = None
    axis_name: str = "PC"

    def places(self) -> FloatArray:
        """Where the marks are `[marks, 2]`.

        Raises:
            ValueError: if one is no finite point of the plane, or of a kind that is not known.
        """
        found = np.zeros((len(self.marks), 2))
        for index, (name, (place, kind)) in enumerate(self.marks.items()):
            point = as_array(place)
            if point.shape != (2,) or not np.isfinite(point).all():
                raise ValueError(f'mark "{name}" {list(point.shape)} must be two finite numbers: a point of the plane')
            if kind not in KINDS:
                raise ValueError(f'mark "{name}" is of the kind "{kind}", not one of {", ".join(KINDS)}')
            found[index] = point
        return found


def line_attractors(plane: PlanePoints, panels: Sequence[AttractorPanel], value_label: str) -> Figure:
    """How do the dynamics change over the embedding: where lies the line of fixed points at each place of it?

    Left the plane with the points of interest; right the fixed points at each of them, all on the same axes and
    with the same colours, so that tilt and length can be compared. A letter joins the two sides.

    Args:
        plane: base models and points of interest.
        panels: one per attractor, all in two or all in three dimensions.
        value_label: what the colour of a fixed point means.

    Raises:
        ValueError: if parts do not fit together, there is no panel, or two have one name.

    Source: Figure 8 of the paper.

    Examples:
        >>> import torch
        >>> from dynamo.figures import AttractorPanel, PlanePoints, line_attractors
        >>> line = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
        >>> plane = PlanePoints([[1.0, 0.0], [0.8, 0.2]], ["GRU", "GRU"], marks={"X": ([0.9, 0.1], "best")})
        >>> figure = line_attractors(plane, [AttractorPanel(line, line[:, 0], "X")], value_label="logit")
        >>> plane_side, attractor_side = figure.subfigs
        >>> plane_side.axes[0].get_xlabel(), attractor_side.axes[0].get_title()
        ('PC 1', 'X')
    """
    names = [panel.name for panel in panels]
    if not names or len(set(names)) < len(names) or len(names) > len(ascii_uppercase):
        raise ValueError(f"line_attractors needs 1 to {len(ascii_uppercase)} panels of different names, got {names}")
    members = plane_points(plane.members, plane.groups)
    places = plane.places()
    dimensions = {panel.background().shape[-1] for panel in panels}
    if len(dimensions) > 1:
        raise ValueError("all panels must have points in two dimensions, or all in three")
    tags, columns = _tags(names), int(np.ceil(np.sqrt(len(panels))))
    ends = common_limits(panels)
    rows = -(-len(panels) // columns)
    height = 0.7 if len(ends) == 3 else (ends[1, 1] - ends[1, 0]) / (ends[0, 1] - ends[0, 0])
    figure = new_figure(12.0, float(np.clip(1.0 + rows * (0.5 + height * 5.6 / columns), 4.6, 9.0)))
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.55], squeeze=False)[0]
    norm = _draw_grid(right, panels, [_joined(tags[name], name) for name in names], ends, (rows, columns), plane.groups)
    bar = right.colorbar(ScalarMappable(norm, DIVERGING), ax=right.axes, aspect=30, pad=0.02, shrink=0.8)
    bar.set_label(value_label, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, length=2)
    axes = left.subplots()
    handles = _draw_marked_plane(axes, plane, {panel.name: panel.group for panel in panels})
    place_headings([axes], [Heading(handles, plane.title, plane.note)])
    if plane.marks:
        shown = [tags.get(name, name) for name in plane.marks]
        call_out(axes, places, shown, members, size=10)
    return figure


def _tags(names: Sequence[str]) -> dict[str, str]:
    """What stands for each name in the plane: a name of one or two letters itself, else the next free letter."""
    short = {name for name in names if len(name) <= 2}
    letters = (letter for letter in ascii_uppercase if letter not in short)
    return {name: name if name in short else next(letters) for name in names}


def _joined(tag: str, name: str) -> str:
    return name if tag == name else f"{tag}  {name}"


def _draw_grid(
    band: SubFigure,
    panels: Sequence[AttractorPanel],
    titles: Sequence[str],
    ends: FloatArray,
    shape: tuple[int, int],
    groups: Sequence[str],
) -> Normalize:
    """Draws all panels on the same axes, and returns the one scale of their colours."""
    largest = max((float(np.abs(panel.arrays()[1]).max(initial=0)) for panel in panels), default=0) or 1.0
    norm, styles, flat = Normalize(-largest, largest), group_styles(groups), len(ends) == 2
    for index, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        axes = band.add_subplot(*shape, index + 1, projection=None if flat else "3d")
        draw_attractor(axes, panel, ends, norm)
        colour = styles[panel.group].colour if panel.group in styles else INK
        note = fill(panel.note or "", 111 // shape[1])
        above = 4 + 10 * len(note.splitlines())
        axes.set_title(title, fontsize=9, fontweight="bold", color=colour, pad=above)
        if note:
            axes.annotate(
                note,
                (0.5, 1.0),
                xycoords="axes fraction",
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7,
                color=MUTED,
            )
        if flat:
            below, first = index + shape[1] >= len(panels), index % shape[1] == 0
            axes.tick_params(labelbottom=below, labelleft=first, labelsize=7)
    band.supxlabel(f"principal {'axis 1' if flat else 'axes 1 to 3'} of the states", fontsize=9, color=INK)
    if flat:
        band.supylabel("principal axis 2 of the states", fontsize=9, color=INK)
    return norm


def _draw_marked_plane(axes: Axes, plane: PlanePoints, groups: Mapping[str, str | None]) -> list[Artist]:
    """Base models with the points of interest over them; returns the entries of the legend."""
    points, styles = plane_points(plane.members, plane.groups), group_styles(plane.groups)
    draw_plane(axes, EmbeddingPanel(points, plane.groups, opacity=np.full(len(points), 0.7), axis_name=plane.axis_name))
    handles = group_handles(plane.groups)
    kinds = [kind for _, kind in plane.marks.values()]
    for kind in KINDS:
        chosen = [index for index, other in enumerate(kinds) if other == kind]
        marker, size, label = _MARKS[kind]
        for index in chosen:
            group = groups.get(list(plane.marks)[index])
            colour = styles[group].colour if kind == "centroid" and group in styles else _face(kind)
            axes.plot(
                *plane.places()[index],
                linestyle="",
                marker=marker,
                markersize=size,
                markerfacecolor=colour,
                markeredgecolor=INK,
                markeredgewidth=1.1,
                zorder=4,
            )
        if chosen:
            handle = Line2D([], [], linestyle="", marker=marker, markersize=min(size, 9), label=label)
            handle.set(markerfacecolor=_face(kind), markeredgecolor=INK)
            handles.append(handle)
    return handles


def _face(kind: Kind) -> str:
    """What a mark is filled with: a chosen member shows through its ring."""
    return {"best": "white", "centroid": MUTED, "interpolated": "white", "member": "none"}[kind]
