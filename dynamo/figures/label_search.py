"""A search over theta alone with few labels: its path through the embedding, and what it gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from dynamo.figures.callouts import call_out
from dynamo.figures.headings import Heading, place_headings
from dynamo.figures.plane_map import PlaneMap, draw_map, draw_members, frame_plane, limits, plane_points
from dynamo.figures.style import (
    INK,
    MUTED,
    FloatArray,
    GroupStyle,
    Values,
    as_array,
    group_styles,
    new_figure,
    plain_axes,
)

START = r"$\theta_\mathrm{init} = 0$"
END = r"$\theta_\mathrm{final}$"
_RED = "#D7191C"
_PAIR = ("white", "#E69F00")
"""White and orange, as in the paper: they show on the dark background, and beside the red of the path."""


@dataclass(frozen=True)
class LabelSearch:
    """What is drawn of one search.

    Attributes:
        members: base models in the plane `[N, 2]`.
        groups: what each of them is coloured by; one or two are white and orange.
        path: the iterates in the same plane, from the first on `[steps + 1, 2]`.
        background: accuracy or loss over the plane, of which places, values and label are drawn; None for none.
        title: short.
        note: numbers for small print below the title.
        axis_name: what the axes are called before their number.

    Examples:
        >>> import torch
        >>> from dynamo.figures import LabelSearch
        >>> LabelSearch([[1.0, 0.0]], ["GRU"], path=torch.tensor([[0.0, 0.0], [0.5, 0.1]])).iterates().shape
        (2, 2)
    """

    members: Values
    groups: Sequence[str]
    path: Values
    background: PlaneMap | None = None
    title: str | None = None
    note: str | None = None
    axis_name: str = "θ"

    def iterates(self) -> FloatArray:
        """The path `[steps + 1, 2]`.

        Raises:
            ValueError: if it is not one line of finite points in the plane.
        """
        path = as_array(self.path)
        if path.ndim != 2 or path.shape[1] != 2 or len(path) < 2:
            raise ValueError(f"path {list(path.shape)} must be [steps + 1, 2], with at least one step")
        if not np.isfinite(path).all():
            raise ValueError("path must be finite: a search that diverged has no line in the plane")
        return path


@dataclass(frozen=True)
class LabelCurve:
    """Test accuracy against the number of labels.

    Attributes:
        counts: numbers of labels, increasing and above 0 `[K]`.
        search_mean: accuracy after searching over theta, mean over draws of the labels `[K]`.
        search_std: its spread over the draws `[K]`; NaN draws none.
        scratch_mean: accuracy of a network trained from scratch on the same labels `[K]`; NaN leaves a point away.
        scratch_std: its spread `[K]`.
        base_best: accuracy of the best base model, which had all labels.
        base_median: that of the median base model.
        start: accuracy at theta = 0, before any label.

    Examples:
        >>> from dynamo.figures import LabelCurve
        >>> curve = LabelCurve([10, 100], [0.80, 0.84], [0.02, 0.01], [0.52, 0.57], [0.01, 0.02], 0.84, 0.8, 0.78)
        >>> counts, search, *_ = curve.columns()
        >>> search - curve.start  # what 10 and 100 labels gain
        array([0.02, 0.06])
    """

    counts: Values
    search_mean: Values
    search_std: Values
    scratch_mean: Values
    scratch_std: Values
    base_best: float
    base_median: float
    start: float

    def columns(self) -> list[FloatArray]:
        """Counts, then mean and spread of either way `[K]`.

        Raises:
            ValueError: if there is not one value per count, or counts cannot stand on a logarithmic axis.
        """
        named = (self.counts, self.search_mean, self.search_std, self.scratch_mean, self.scratch_std)
        found = [as_array(values) for values in named]
        counts = found[0]
        if counts.ndim != 1 or not len(counts) or counts[0] <= 0 or not (np.diff(counts) > 0).all():
            raise ValueError("counts must be numbers of labels above 0, in increasing order")
        if any(column.shape != counts.shape for column in found):
            raise ValueError(
                f"every curve needs one mean and one spread for each of the {len(counts)} counts of labels"
            )
        return found


def label_search(search: LabelSearch, curve: LabelCurve) -> Figure:
    """Can a few labels find a good network in the embedding, and how much better is that than training one?

    Left the path of one search, from theta = 0 to the end, over the base models; right the accuracy it reaches
    against the number of labels.

    Raises:
        ValueError: if the parts of either panel do not fit together.

    Source: Figure 7 of the paper (left). The paper shows no curve: the right panel is ours.

    Examples:
        >>> from dynamo.figures import LabelCurve, LabelSearch, label_search
        >>> search = LabelSearch([[1.0, 0.0], [0.8, 0.2]], ["GRU", "GRU"], path=[[0.0, 0.0], [0.5, 0.1], [0.9, 0.1]])
        >>> curve = LabelCurve([10, 100], [0.80, 0.84], [0.02, 0.01], [0.52, 0.57], [0.01, 0.02], 0.84, 0.8, 0.78)
        >>> label_search(search, curve).axes[1].get_xscale()
        'log'
    """
    curve.columns()  # wrong input is refused before anything is drawn
    path, members = search.iterates(), plane_points(search.members, search.groups)
    figure = new_figure(9.6, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1])
    handles = _draw_search(left, search)
    right_handles = _draw_curve(right, curve)
    headings = [
        Heading(handles, search.title, search.note),
        Heading(right_handles, "accuracy against labels", "mean and standard deviation over draws of the labels"),
    ]
    place_headings([left, right], headings)
    call_out(left, path[[0, -1]], [START, END], np.concatenate([members, path]), size=10.5)
    return figure


def _draw_search(axes: Axes, search: LabelSearch) -> list[Artist]:
    """The plane with base models and path; returns the entries of its legend."""
    points, path, styles = plane_points(search.members, search.groups), search.iterates(), _styles(search.groups)
    if search.background is not None:
        draw_map(axes, search.background)
    draw_members(axes, points, search.groups, styles)
    around = [withStroke(linewidth=3.6, foreground="white")]
    axes.plot(*path.T, color=_RED, linewidth=1.8, zorder=4, label="search", path_effects=around)
    ring = [withStroke(linewidth=3.2, foreground="white")]
    axes.plot(*path[0], "o", color=_RED, markerfacecolor="white", markersize=8, zorder=5, label="start")
    axes.plot(*path[-1], "*", color=_RED, markersize=13, zorder=5, label="end", path_effects=ring)
    frame_plane(axes, _ends(search, points, path), search.axis_name)
    handles: list[Artist] = [
        Line2D([], [], linestyle="", marker=s.marker, color=s.colour, markeredgecolor=INK, label=name)
        for name, s in styles.items()
    ]
    return [*handles, Line2D([], [], color=_RED, linewidth=1.8, label=f" {len(path) - 1} iterates")]


def _styles(groups: Sequence[str]) -> dict[str, GroupStyle]:
    """White and orange for up to two groups, else the colours of every other figure."""
    styles = group_styles(groups)
    if len(styles) > len(_PAIR):
        return styles
    return {name: GroupStyle(_PAIR[i], style.marker) for i, (name, style) in enumerate(styles.items())}


def _ends(search: LabelSearch, points: FloatArray, path: FloatArray) -> FloatArray:
    """The part of the plane that holds the map, the base models and the path `[[left, right], [bottom, top]]`."""
    both = np.concatenate([points, path])
    low, high = both.min(0), both.max(0)
    margin = np.maximum(0.08 * (high - low), 0.02 * (high - low).max() or 1.0)
    ends = np.stack([low - margin, high + margin], 1)
    if search.background is None:
        return ends
    below = limits(search.background)
    outside = np.stack([low < below[:, 0], high > below[:, 1]], 1)
    return np.where(outside, ends, below)


def _draw_curve(axes: Axes, curve: LabelCurve) -> list[Artist]:
    """Accuracy against the number of labels; returns the entries of its legend."""
    counts, *columns = curve.columns()
    handles: list[Artist] = []
    looks = (("search over θ", _RED, "o", 0.985), ("from scratch", INK, "s", 1.015))
    for (label, colour, marker, aside), mean, spread in zip(looks, columns[::2], columns[1::2], strict=True):
        axes.errorbar(
            counts * aside,  # side by side, or one spread hides the other
            mean,
            yerr=np.nan_to_num(spread),
            color=colour,
            marker=marker,
            markersize=5.5,
            markeredgecolor="white",
            linewidth=1.6,
            elinewidth=1.1,
            capsize=2.5,
            label=label,
            zorder=3,
        )
        handles.append(Line2D([], [], color=colour, marker=marker, markeredgecolor="white", label=f" {label}"))
    for label, level, dashes in (
        ("best base model", curve.base_best, (0, ())),
        ("median base model", curve.base_median, (0, (5, 3))),
        ("θ = 0", curve.start, (0, (1, 2))),
    ):
        handles.append(axes.axhline(level, color=MUTED, linestyle=dashes, linewidth=1.1, zorder=1, label=f" {label}"))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(counts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")
    axes.set_xlim(counts[0] / 1.3, counts[-1] * 1.3)
    axes.margins(y=0.08)
    axes.set_xlabel("number of labels")
    axes.set_ylabel("test accuracy")
    plain_axes(axes)
    return handles
