"""Model averaging: networks at means of theta, and on the way between two members, against averaged weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import fill

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from dynamo.figures.headings import Heading, place_headings
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

Line = tuple[str, Values, Values, Values | None]
"""A way between two members: its label, shares of the way `[K]`, accuracy of the meta-model there `[K]`, and of the
network whose weights are the same share apart `[K]`, or None where there is none."""
_ALL = "all"
_MOST_NUMBERED = 6
"""With more columns than this there is no room for numbers beside the marks."""


@dataclass(frozen=True)
class AveragingChart:
    """What is drawn of one task.

    Attributes:
        members: accuracies of the base models by group, each `[models of the group]`.
        means: accuracy of the meta-model at the mean theta, by the name of what is averaged: a group, "all", or
            any other.
        averaged_weights: accuracy of the network with the averaged weights, by the same names; the name of
            several groups, as "100%, 50%", is "all" if it names every group.
        chance: accuracy of a guess.
        lines: ways between two members.
        task: whose accuracies these are.
        own_statistics: accuracy of the network with the averaged weights whose batch norms gathered their statistics
            anew, by the names of `averaged_weights`; empty where there are no batch norms.

    Examples:
        >>> from dynamo.figures import AveragingChart
        >>> members, means = {"GRU": [0.81, 0.83], "RNN": [0.79, 0.80]}, {"GRU": 0.84, "RNN": 0.80, "all": 0.83}
        >>> chart = AveragingChart(members, means, {"GRU, RNN": 0.52}, chance=0.5, lines=[], task="imdb")
        >>> chart.columns(), chart.weights()  # the mean over every group is "all"
        (['GRU', 'RNN', 'all'], {'all': 0.52})
    """

    members: Mapping[str, Values]
    means: Mapping[str, float]
    averaged_weights: Mapping[str, float]
    chance: float
    lines: Sequence[Line]
    task: str
    own_statistics: Mapping[str, float] = field(default_factory=dict)

    def accuracies(self) -> dict[str, FloatArray]:
        """Those of the base models by group.

        Raises:
            ValueError: if there is no group, or one has no models.
        """
        found = {group: as_array(values) for group, values in self.members.items()}
        if not found or any(values.ndim != 1 or not len(values) for values in found.values()):
            shapes = {group: list(values.shape) for group, values in found.items()}
            raise ValueError(f"{self.task}: members must be one or more accuracies for each group, got {shapes}")
        return found

    def weights(self, own_statistics: bool = False) -> dict[str, float]:
        """Accuracy of averaged weights by column: every group by name is "all"."""
        groups = set(self.members)
        return {
            _ALL if len(groups) > 1 and set(name.split(", ")) == groups else name: value
            for name, value in (self.own_statistics if own_statistics else self.averaged_weights).items()
        }

    def columns(self) -> list[str]:
        """What stands side by side: the groups, then every other mean."""
        return list(dict.fromkeys([*self.members, *self.means, *self.weights()]))

    def ways(self) -> list[tuple[str, FloatArray, FloatArray, FloatArray | None]]:
        """The ways between two members, as arrays.

        Raises:
            ValueError: if there is not one accuracy per share of a way.
        """
        found = []
        for label, shares, accuracy, weights in self.lines:
            steps, network = as_array(shares), as_array(accuracy)
            averaged = None if weights is None else as_array(weights)
            others = [network] if averaged is None else [network, averaged]
            if steps.ndim != 1 or any(values.shape != steps.shape for values in others):
                raise ValueError(f"{self.task}, {label}: every one of the {steps.size} shares needs its accuracies")
            found.append((label, steps, network, averaged))
        return found


def averaging_chart(charts: AveragingChart | Sequence[AveragingChart]) -> Figure:
    """Is there a working network between the networks, in theta and in the weights?

    Left the base models by group with the network at the mean of their theta and that of their mean weights;
    right the networks on the way between two members. One row per task.

    Raises:
        ValueError: if there is no chart, or the parts of one do not fit together.

    Source: the abstract of the paper (model averaging); the picture is ours.

    Examples:
        >>> from dynamo.figures import AveragingChart, averaging_chart
        >>> way = ("GRU-0 to GRU-1", [0.0, 0.5, 1.0], [0.81, 0.84, 0.83], [0.81, 0.55, 0.83])
        >>> chart = AveragingChart({"GRU": [0.81, 0.83]}, {"GRU": 0.84}, {"GRU": 0.55}, 0.5, [way], task="imdb")
        >>> [axes.get_title() for axes in averaging_chart(chart).subfigs[0].axes]
        ['imdb', 'between two members']
    """
    charts = [charts] if isinstance(charts, AveragingChart) else list(charts)
    if not charts:
        raise ValueError("averaging_chart needs at least one chart: that of one task")
    for chart in charts:  # wrong input is refused before anything is drawn
        chart.accuracies()
        chart.ways()
    figure = new_figure(10.0, 4.3 * len(charts))
    for band, chart in zip(figure.subfigures(len(charts), 1, squeeze=False)[:, 0], charts, strict=True):
        left, right = band.subplots(1, 2, width_ratios=[1.15, 1])
        headings = [
            Heading(_draw_columns(left, chart), chart.task),
            Heading(_draw_ways(right, chart), "between two members"),
        ]
        right.sharey(left)
        place_headings([left, right], headings)
    return figure


def _draw_columns(axes: Axes, chart: AveragingChart) -> list[Artist]:
    """Base models, means of theta and of weights; returns the entries of the legend."""
    groups, columns = chart.accuracies(), chart.columns()
    styles, place = group_styles(list(groups)), {name: index for index, name in enumerate(columns)}
    for name, values in groups.items():
        beside = place[name] - 0.24 + np.linspace(-0.1, 0.1, len(values)) * (len(values) > 1)
        axes.scatter(
            beside,
            values,
            s=30,
            c=styles[name].colour,
            marker=styles[name].marker,
            edgecolors="white",
            linewidths=0.6,
            alpha=0.9,
            label=name,
            zorder=2,
        )
    _draw_marks(axes, chart.means, "mean θ", "D", styles, place)
    _draw_marks(axes, chart.weights(), "averaged weights", "x", styles, place)
    if chart.own_statistics:
        _draw_marks(axes, chart.weights(own_statistics=True), "with own batch statistics", "+", styles, place)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_xticks(range(len(columns)), [fill(name, 14) for name in columns])
    if len(columns) > _MOST_NUMBERED:
        for label in axes.get_xticklabels():
            label.set(rotation=30, horizontalalignment="right", rotation_mode="anchor")
    axes.set_ylabel("test accuracy")
    plain_axes(axes)
    handles = [
        Line2D([], [], linestyle="", marker="o", color=MUTED, markeredgecolor="white", label="base model"),
        Line2D([], [], linestyle="", marker="D", color=MUTED, markeredgecolor=INK, label="meta-model at the mean θ"),
        Line2D([], [], linestyle="", marker="x", color=MUTED, markeredgewidth=2, label="averaged weights"),
        Line2D([], [], linestyle="", marker="+", color=MUTED, markeredgewidth=2, label="with own batch statistics"),
    ]
    return [*handles[: 4 if chart.own_statistics else 3], *_draw_levels(axes, chart)]


def _draw_marks(
    axes: Axes,
    found: Mapping[str, float],
    label: str,
    marker: str,
    styles: Mapping[str, GroupStyle],
    place: Mapping[str, int],
) -> None:
    """Networks that are the average of others, each in its column, with their accuracy where there is room."""
    filled = marker == "D"
    axes.scatter(
        [place[name] for name in found],
        list(found.values()),
        s=52 if filled else 46,
        c=[styles[name].colour if name in styles else INK for name in found],
        marker=marker,
        edgecolors=INK if filled else None,
        linewidths=0.9 if filled else 2.0,
        label=label,
        zorder=3,
    )
    if len(place) > _MOST_NUMBERED:
        return
    aside = -8 if marker == "+" else 8  # beside the other control, which is as near to chance
    for name, value in found.items():
        axes.annotate(
            f"{value:.3f}",
            (place[name], value),
            xytext=(aside, 0),
            textcoords="offset points",
            ha="left" if aside > 0 else "right",
            va="center",
            fontsize=7.5,
            color=INK,
            path_effects=[withStroke(linewidth=2.4, foreground="white")],
        )


def _draw_levels(axes: Axes, chart: AveragingChart) -> list[Artist]:
    """Best base model and chance, as lines across; returns the entries of the legend."""
    best = float(np.nanmax(np.concatenate(list(chart.accuracies().values()))))
    return [
        axes.axhline(best, color=MUTED, linestyle=":", linewidth=1.1, zorder=1, label=" best base model"),
        axes.axhline(chart.chance, color=MUTED, linestyle="--", linewidth=1.1, zorder=1, label=" chance"),
    ]


def _draw_ways(axes: Axes, chart: AveragingChart) -> list[Artist]:
    """Accuracy on the way between two members; returns the entries of the legend."""
    ways = chart.ways()
    if not ways:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no pair of members", transform=axes.transAxes, ha="center", color=MUTED)
        return []
    colours = [to_hex(colormaps["viridis"](share)) for share in np.linspace(0, 0.85, max(2, len(ways)))]
    handles: list[Artist] = []
    for (label, shares, accuracy, weights), colour in zip(ways, colours, strict=False):
        axes.plot(shares, accuracy, color=colour, linewidth=1.7, marker="o", markersize=3.2, label=label, zorder=3)
        if weights is not None:
            axes.plot(shares, weights, color=colour, linewidth=1.3, linestyle="--", label=f"{label}, weights", zorder=2)
        handles.append(Line2D([], [], color=colour, linewidth=2.4, label=f" {label}"))
    _draw_levels(axes, chart)
    axes.set_xlabel("share of the way from the first to the second")
    axes.set_ylabel("test accuracy")
    plain_axes(axes)
    return [
        *handles,
        Line2D([], [], color=MUTED, linewidth=1.7, marker="o", markersize=3.2, label=" in θ"),
        Line2D([], [], color=MUTED, linewidth=1.3, linestyle="--", label=" in the weights"),
    ]
