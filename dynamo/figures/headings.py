"""What stands above the axes of one row: title, small print and legend, all titles at one height."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from dynamo.figures.style import INK, MUTED, group_styles, root_figure


@dataclass(frozen=True)
class Heading:
    """What is written above one pair of axes.

    Attributes:
        handles: entries of the legend, with their labels.
        title: short.
        note: numbers for small print between title and legend.
    """

    handles: Sequence[Artist] = ()
    title: str | None = None
    note: str | None = None


def group_handles(groups: Sequence[str], edge: str = "white") -> list[Artist]:
    """The entries of a legend of groups, in order of first appearance."""
    return [
        Line2D([], [], linestyle="", marker=style.marker, color=style.colour, markeredgecolor=edge, label=name)
        for name, style in group_styles(groups).items()
    ]


def place_headings(row: Sequence[Axes], headings: Iterable[Heading]) -> None:
    """Puts legend, note and title above axes that stand in one row, all titles at one height.

    Call it when the axes have their final size: it lays the figure out to see how wide they are.
    """
    figure = root_figure(row[0])
    figure.draw_without_rendering()  # how wide the axes are is known only now
    pairs = list(zip(row, headings, strict=True))
    legends = []
    for axes, heading in pairs:
        names = [str(handle.get_label()) for handle in heading.handles]
        legend = axes.legend(
            handles=list(heading.handles),
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=_columns(names, axes),
            title=heading.note,
            title_fontproperties={"size": 8},
            fontsize=8.5,
            frameon=False,
            handletextpad=0.1,
            columnspacing=1.0,
            borderaxespad=0,
        )
        legend.get_title().set_color(MUTED)
        legends.append(legend)
    figure.draw_without_rendering()
    inches = max(legend.get_window_extent().height for legend in legends) / figure.dpi + 3 / 72
    above = ScaledTranslation(0, inches, figure.dpi_scale_trans)
    for (axes, heading), legend in zip(pairs, legends, strict=True):
        legend.set_loc("upper center")
        legend.set_bbox_to_anchor((0.5, 1.0), transform=axes.transAxes + above)
        if heading.title:
            axes.set_title(
                _in_lines(heading.title, axes), fontsize=10.5, fontweight="bold", color=INK, pad=72 * inches + 3
            )


def _in_lines(title: str, axes: Axes) -> str:
    """A title in lines no wider than these axes, at about 0.087 inch a letter; what stands beside a number stays."""
    letters = max(12, int(1.05 * axes.get_window_extent().width / root_figure(axes).dpi / 0.087))
    if len(title) <= letters:
        return title
    together = re.sub(r" (?=[=\d])|(?<==) ", "\N{NO-BREAK SPACE}", title)
    return fill(together, letters, break_long_words=False)


def _columns(names: Sequence[str], axes: Axes) -> int:
    """How many legend entries fit side by side above these axes, at about 0.072 inch a letter?"""
    available = 1.1 * axes.get_window_extent().width / root_figure(axes).dpi
    widths = [0.072 * len(name) + 0.3 for name in names]
    for columns in range(len(names), 1, -1):
        if sum(column.max() for column in np.array_split(widths, columns)) <= available:
            return -(-len(names) // -(-len(names) // columns))  # as few as the same number of rows takes
    return 1
