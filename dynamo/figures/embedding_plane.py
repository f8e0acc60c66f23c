"""One embedding: the plane of its first two components, and its spectrum below (a column of Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dynamo.figures.headings import Heading, group_handles, place_headings
from dynamo.figures.labels import label_points
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

MOST_BARS = 20
"""Components after this one are not drawn unless the dotted line needs them."""


@dataclass(frozen=True)
class EmbeddingPanel:
    """What is drawn of one embedding.

    Attributes:
        coordinates: points in the axes to draw `[N, >= 2]`; one column is drawn at height 0.
        groups: what each point is coloured by; the legend is in order of first appearance.
        spectrum: share of the variance per component `[D]`; None where there is none (MDS), which leaves only
            the plane.
        dims_95: components needed for 95 % of the variance, where the dotted line stands.
        names: one per point, written where there is room.
        opacity: one per point, in (0, 1]; low for early in training.
        trajectories: points joined by thin lines, as index sequences: the epochs of one model.
        title: short.
        note: numbers for small print below the title, such as "silhouette 0.38 (p = 0.0001)".
        axis_name: what the axes are called before their number.

    Examples:
        >>> from dynamo.figures import EmbeddingPanel
        >>> EmbeddingPanel([[0.5], [2.0]], groups=["GRU", "RNN"]).points()  # one dimension is drawn at height 0
        array([[0.5, 0. ],
               [2. , 0. ]])
    """

    coordinates: Values
    groups: Sequence[str]
    spectrum: Values | None = None
    dims_95: int | None = None
    names: Sequence[str] | None = None
    opacity: Values | None = None
    trajectories: Sequence[Sequence[int]] | None = None
    title: str | None = None
    note: str | None = None
    axis_name: str = "PC"

    def points(self) -> FloatArray:
        """The two columns that are drawn `[N, 2]`.

        Raises:
            ValueError: if the parts of the panel do not fit together.
        """
        values = as_array(self.coordinates)
        if values.ndim != 2 or len(values) != len(self.groups) or 0 in values.shape:
            raise ValueError(f"coordinates {list(values.shape)} must be [N, >= 2], with one group each")
        if self.names is not None and len(self.names) != len(values):
            raise ValueError(f"{len(self.names)} names for {len(values)} points")
        return np.pad(values[:, :2], ((0, 0), (0, max(0, 2 - values.shape[1]))))

    def alpha(self) -> FloatArray:
        """Opacity of every point `[N]`.

        Raises:
            ValueError: if it is not one number in (0, 1] per point.
        """
        if self.opacity is None:
            return np.full(len(self.groups), 0.9)
        values = as_array(self.opacity)
        if values.shape != (len(self.groups),) or not ((values > 0) & (values <= 1)).all():
            raise ValueError("opacity must be one number in (0, 1] per point")
        return values


def embedding_plane(
    coordinates: Values,
    groups: Sequence[str],
    spectrum: Values | None = None,
    *,
    dims_95: int | None = None,
    names: Sequence[str] | None = None,
    opacity: Values | None = None,
    trajectories: Sequence[Sequence[int]] | None = None,
    title: str | None = None,
    note: str | None = None,
    axis_name: str = "PC",
) -> Figure:
    """How do the models lie in the plane where they differ most, and how much of the difference is that?

    Args are those of `EmbeddingPanel`. Points stand at equal scale on both axes, so that distances in the
    picture are distances in the embedding.

    Raises:
        ValueError: if the parts of the panel do not fit together.

    Source: Figure 3 (one column), Figures 4, 5 and 10 of the paper.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import pca
        >>> from dynamo.figures import embedding_plane
        >>> axes = pca(torch.tensor([[-2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [-2.0, -1.0, 0.0], [2.0, -1.0, 0.0]]))
        >>> figure = embedding_plane(axes.coordinates, ["a", "b", "a", "b"], axes.spectrum, dims_95=2)
        >>> sorted(panel.get_xlabel() for panel in figure.axes), figure.axes[-1].get_ylabel()
        (['PC 1 (80 %)', 'component'], 'variance')
    """
    panel = EmbeddingPanel(coordinates, groups, spectrum, dims_95, names, opacity, trajectories, title, note, axis_name)
    if spectrum is None:
        figure = new_figure(5.0, 5.0)
        plane = figure.subplots()
    else:
        figure = new_figure(5.0, 6.2)
        plane, below = figure.subplots(2, 1, height_ratios=[3, 1])
        draw_spectrum(below, panel)
    draw_plane(plane, panel)
    place_titles([plane], [panel])
    if names is not None:
        label_points(plane, panel.points(), names)
    return figure


def draw_plane(axes: Axes, panel: EmbeddingPanel) -> None:
    """Draws the points of one embedding, one collection per group, with a legend above."""
    points, alpha, styles = panel.points(), panel.alpha(), group_styles(panel.groups)
    for line in panel.trajectories or ():
        colour = styles[panel.groups[line[-1]]].colour
        axes.plot(*points[list(line)].T, color=colour, alpha=0.3, linewidth=0.8, zorder=1)
    many = len(points) > 60
    for name, style in styles.items():
        chosen = np.array([group == name for group in panel.groups])
        colours = [to_rgba(style.colour, share) for share in alpha[chosen]]
        edges = [to_rgba("white", share) for share in alpha[chosen]]
        axes.scatter(
            points[chosen, 0],
            points[chosen, 1],
            clip_on=False,  # a long heading takes from the height after the limits were set
            s=22 if many else 46,
            c=colours,
            edgecolors=edges,
            linewidths=0.4 if many else 0.7,
            marker=style.marker,
            label=name,
            zorder=2,
        )
    axes.margins(0.1)
    axes.set_aspect("equal", adjustable="datalim")
    axes.axhline(0, color=MUTED, linewidth=0.4, alpha=0.5, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.4, alpha=0.5, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(_axis_label(panel, 0))
    axes.set_ylabel(_axis_label(panel, 1))
    plain_axes(axes)


def draw_spectrum(axes: Axes, panel: EmbeddingPanel) -> None:
    """Draws share of variance against component, with the dotted line after the last one needed for 95 %."""
    if panel.spectrum is None:
        raise ValueError("this panel has no spectrum")
    shares = as_array(panel.spectrum)
    shares = shares[: max(MOST_BARS, (panel.dims_95 or 0) + 2)]
    numbers = np.arange(1, len(shares) + 1)
    axes.bar(numbers, shares, width=0.75, color="#9aa5b1")
    axes.set_xlim(0.3, len(shares) + 0.9)
    axes.set_ylim(0, 1.12 * float(shares.max()) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlabel("component")
    axes.set_ylabel("variance")
    plain_axes(axes)
    if panel.dims_95:
        where = panel.dims_95 + 0.5
        axes.axvline(where, color=INK, linestyle=":", linewidth=1.4)
        right = where > 0.65 * len(shares)
        axes.annotate(
            f"95 % in {panel.dims_95}",
            (where, 0.86),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if right else 5, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=8,
            color=INK,
        )


def place_titles(planes: Sequence[Axes], panels: Sequence[EmbeddingPanel]) -> None:
    """Puts legend, note and title above planes that stand in one row, all titles at one height."""
    place_headings(planes, [Heading(group_handles(panel.groups), panel.title, panel.note) for panel in panels])


def _axis_label(panel: EmbeddingPanel, axis: int) -> str:
    """Such as "PC 1 (64 %)"."""
    label = f"{panel.axis_name} {axis + 1}"
    if panel.spectrum is None:
        return label
    spectrum = as_array(panel.spectrum)
    return f"{label} ({spectrum[axis]:.0%})".replace("%", " %") if axis < len(spectrum) else label
