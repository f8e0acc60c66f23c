"""Fidelity member by member: whom does the meta-model follow, and whom not?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dynamo.figures.style import (
    INK,
    MUTED,
    FloatArray,
    Values,
    as_array,
    group_styles,
    new_figure,
    plain_axes,
)

_LOWEST = -0.25
"""Bars further below 0 are cut here; the number beside the worst one says how far it goes."""


def fidelity_bars(
    names: Sequence[str],
    groups: Sequence[str],
    variance_explained: Values,
    agreement: Values,
    accuracy: Values,
    original_accuracy: Values,
    *,
    title: str | None = None,
) -> Figure:
    """Does every emulator follow its original, and is it as accurate?

    The worst member of each panel is marked: by its own measure, so it need not be the same one.

    What nobody knows is NaN: agreement and accuracies of networks without answers, accuracies on items without labels.

    Args:
        names: one per member.
        groups: what members are coloured by.
        variance_explained: share of the variance of h explained `[N]`.
        agreement: share of items with the same answer `[N]`.
        accuracy: of the emulators `[N]`.
        original_accuracy: of the base models `[N]`.
        title: short.

    Raises:
        ValueError: if there is not one value per member everywhere.

    Examples:
        >>> from dynamo.figures import fidelity_bars
        >>> names, groups = ["GRU-0", "GRU-1"], ["GRU", "GRU"]
        >>> figure = fidelity_bars(names, groups, [0.9, 0.8], [0.95, 0.9], [0.81, 0.8], [0.82, 0.83])
        >>> figure.axes[0].get_xlabel().splitlines()
        ['variance of h explained', '(mean 0.85, dotted)']
    """
    columns = [as_array(v) for v in (variance_explained, agreement, accuracy, original_accuracy)]
    if any(column.shape != (len(names),) for column in columns) or len(groups) != len(names) or not names:
        raise ValueError(f"every argument needs one value for each of the {len(names)} members")
    explained, agreeing, emulated, original = columns
    styles = group_styles(groups)
    colours = [styles[group].colour for group in groups]
    figure = new_figure(9.0, max(3.6, 1.4 + 0.19 * len(names)))
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.25])
    _bars(left, explained, colours, "variance of h explained")
    _bars(middle, agreeing, colours, "same answer as the original")
    middle.sharey(left)
    left.set_yticks(range(len(names)), names, fontsize=8 if len(names) <= 24 else 6)
    left.set_ylim(len(names) - 0.4, -0.6)
    middle.tick_params(labelleft=False)
    _against_original(right, emulated, original, groups, names)
    handles = [
        Line2D([], [], linestyle="", marker=s.marker, color=s.colour, markeredgecolor="white", label=name)
        for name, s in styles.items()
    ]
    handles.append(Line2D([], [], linestyle="", marker="o", markerfacecolor="none", color=INK, label="worst member"))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=min(6, len(handles)),
        title=title,
        title_fontproperties={"size": 11, "weight": "bold"},
        frameon=False,
        fontsize=9,
        handletextpad=0.2,
    )
    return figure


def _bars(axes: Axes, values: FloatArray, colours: Sequence[str], label: str) -> None:
    """One horizontal bar per member, from the top, with the mean as a line and the worst outlined."""
    if np.isnan(values).all():
        _nothing(axes, f"{label}:\nthe networks have no answers")
        return
    rows = np.arange(len(values))
    bars = axes.barh(rows, values, height=0.7, color=colours, alpha=0.85)
    lowest = max(_LOWEST, min(0.0, 1.15 * float(np.nanmin(values))))
    axes.set_xlim(lowest, 1)
    worst = int(np.nanargmin(values))
    bars[worst].set(edgecolor=INK, linewidth=1.4, alpha=1)
    axes.axvline(float(np.nanmean(values)), color=MUTED, linestyle=":", linewidth=1.2)
    inside = values[worst] > 0.3
    axes.annotate(
        f"{values[worst]:.2f}",
        (max(0.0, float(values[worst])), worst),
        xytext=(-4 if inside else 4, 0),
        textcoords="offset points",
        ha="right" if inside else "left",
        va="center",
        fontsize=8,
        fontweight="bold",
        color="white" if inside else INK,
    )
    axes.set_xlabel(f"{label}\n(mean {np.nanmean(values):.2f}, dotted)")
    plain_axes(axes)


def _against_original(
    axes: Axes, emulated: FloatArray, original: FloatArray, groups: Sequence[str], names: Sequence[str]
) -> None:
    """Emulator's accuracy over the original's, with the diagonal where they are equal."""
    both = np.concatenate([emulated, original])
    if np.isnan(both).all():
        _nothing(axes, "accuracies:\nno answers, or no labels")
        return
    margin = max(0.02, 0.12 * float(np.nanmax(both) - np.nanmin(both)))
    limits = (float(np.nanmin(both)) - margin, float(np.nanmax(both)) + margin)
    axes.plot(limits, limits, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
    for name, style in group_styles(groups).items():
        chosen = np.array([group == name for group in groups])
        axes.scatter(
            original[chosen],
            emulated[chosen],
            s=42,
            color=style.colour,
            marker=style.marker,
            alpha=0.9,
            edgecolors="white",
            linewidths=0.7,
        )
    worst = int(np.nanargmin(emulated - original))
    axes.scatter(original[worst], emulated[worst], s=110, facecolors="none", edgecolors=INK, linewidths=1.4)
    leftwards = original[worst] > sum(limits) / 2
    axes.annotate(
        f"{names[worst]} ({emulated[worst] - original[worst]:+.2f})",
        (float(original[worst]), float(emulated[worst])),
        xytext=(-8 if leftwards else 8, -9),
        textcoords="offset points",
        ha="right" if leftwards else "left",
        va="center",
        fontsize=8,
        color=INK,
    )
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("accuracy of the original")
    axes.set_ylabel("accuracy of the emulator")
    plain_axes(axes)


def _nothing(axes: Axes, what: str) -> None:
    """A panel that has nothing to show says so."""
    axes.text(0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=MUTED)
    axes.set_axis_off()
