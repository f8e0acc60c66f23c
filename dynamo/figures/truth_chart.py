"""What was measured over what is known to be true: the check that data with a known truth allow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from dynamo.figures.style import MUTED, FloatArray, Values, as_array, group_styles, new_figure, plain_axes


def truth_chart(
    known: Values,
    measured: Mapping[str, Values],
    *,
    known_label: str,
    measured_label: str,
    title: str | None = None,
) -> Figure:
    """Does what was measured follow the truth, and with which slope?

    One colour and marker per series, its least-squares line, and in the legend the slope and Pearson's r.

    Args:
        known: the truth, such as the valence of every word `[K]`.
        measured: by the name of a series, its K values.
        known_label: what the truth is.
        measured_label: what was measured.
        title: short.

    Raises:
        ValueError: nothing was measured, a series has not K values, values are not finite, or the truth is all the
            same.

    Examples:
        >>> from dynamo.figures import truth_chart
        >>> figure = truth_chart(
        ...     [-1.0, 0.0, 2.0], {"measured": [-2.0, 0.0, 4.0]}, known_label="valence", measured_label="effect"
        ... )
        >>> figure.axes[0].get_legend_handles_labels()[1]
        ['measured: slope 2.00...']
    """
    truth, series = _checked(known, measured)
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    axes.axhline(0, color=MUTED, linewidth=0.4, alpha=0.5, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.4, alpha=0.5, zorder=0)
    ends = np.array([truth.min(), truth.max()])
    for name, style in group_styles(list(series)).items():
        slope, height, correlation = _line(truth, series[name])
        label = f"{name}: slope {slope:.2f}, r = {correlation:.2f}"
        axes.scatter(
            truth,
            series[name],
            s=34,
            color=style.colour,
            marker=style.marker,
            edgecolors="white",
            linewidths=0.6,
            alpha=0.85,
            label=label,
            zorder=2,
        )
        axes.plot(ends, height + slope * ends, color=style.colour, linewidth=1.0, alpha=0.6, zorder=1)
    axes.set_xlabel(known_label)
    axes.set_ylabel(measured_label)
    plain_axes(axes)
    figure.legend(
        loc="outside upper center",
        ncols=1,
        title=title,
        title_fontproperties={"size": 11, "weight": "bold"},
        frameon=False,
        fontsize=9,
    )
    return figure


def _checked(known: Values, measured: Mapping[str, Values]) -> tuple[FloatArray, dict[str, FloatArray]]:
    """The truth `[K]` and the series `[K]` by name, if there is anything to compare."""
    truth = as_array(known)
    series = {name: as_array(values) for name, values in measured.items()}
    shapes = {name: list(values.shape) for name, values in series.items()}
    if truth.ndim != 1 or not series or any(values.shape != truth.shape for values in series.values()):
        raise ValueError(f"every series must have one value for each of the truth's {list(truth.shape)}, got {shapes}")
    if not all(np.isfinite(values).all() for values in (truth, *series.values())):
        raise ValueError("truth and series must be finite numbers")
    if np.ptp(truth) == 0:
        raise ValueError("the truth is the same everywhere: there is nothing to follow")
    return truth, series


def _line(truth: FloatArray, values: FloatArray) -> tuple[float, float, float]:
    """Slope, height at 0, and Pearson's r (0 where the values do not vary) of the least-squares line."""
    apart, off = truth - truth.mean(), values - values.mean()
    slope = float(apart @ off / (apart @ apart))
    size = float(np.sqrt((apart @ apart) * (off @ off)))
    return slope, float(values.mean() - slope * truth.mean()), float(apart @ off) / size if size > 0 else 0.0
