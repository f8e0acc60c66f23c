"""Two ways to compare the same models: scaling of one distance, plane of the other, and pair against pair."""

from __future__ import annotations

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dynamo.figures.embedding_plane import EmbeddingPanel, draw_plane
from dynamo.figures.headings import Heading, group_handles, place_headings
from dynamo.figures.labels import label_points
from dynamo.figures.style import INK, MUTED, FloatArray, Values, as_array, group_styles, new_figure, plain_axes


def distance_panels(
    mds: EmbeddingPanel,
    pca: EmbeddingPanel,
    distances_a: Values,
    distances_b: Values,
    note: str | None = None,
    *,
    emulators: Values | None = None,
    label_a: str = "SVCCA distance",
    label_b: str = "distance of θ",
) -> Figure:
    """Do distances between representations tell the same of the models as distances in the embedding?

    Left the scaling of the one distance, in the middle the plane of theta, right both distances of every pair.

    Args:
        mds: scaling of the first distance.
        pca: plane of theta, of the same models in the same order.
        distances_a: of every pair, such as SVCCA `[N, N]`; a pair that is not finite is left away.
        distances_b: of every pair, such as that of theta `[N, N]`.
        note: how the two agree, such as "r = 0.62 (p = 0.0001)".
        emulators: the first distance of every emulator to its original `[N]`: how near is near; their
            median is a dashed line.
        label_a: what the first distance is called.
        label_b: what the second is called.

    Raises:
        ValueError: if the panels are not of the same two or more models, or distances are not one for each pair.

    Source: Figure 5 of the paper (left). The paper shows neither plane nor pairs beside it: both are ours.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import classical_mds, euclidean_distances, pca
        >>> from dynamo.figures import EmbeddingPanel, distance_panels
        >>> theta, groups = torch.randn(6, 3), ["a", "a", "a", "b", "b", "b"]
        >>> distances = euclidean_distances(theta)
        >>> mds = EmbeddingPanel(classical_mds(distances).coordinates, groups, title="SVCCA")
        >>> plane = EmbeddingPanel(pca(theta).coordinates, groups, title="theta")
        >>> figure = distance_panels(mds, plane, distances, distances)
        >>> [axes.get_title() for axes in figure.axes]
        ['SVCCA', 'theta', 'every pair of models']
    """
    first, second = _distances(mds, pca, distances_a, distances_b)
    reference = None if emulators is None else as_array(emulators)
    if reference is not None and reference.shape != (len(mds.groups),):
        raise ValueError(f"emulators {list(reference.shape)} must be one distance for each of {len(mds.groups)} models")
    figure = new_figure(10.8, 4.5)
    left, middle, right = figure.subplots(1, 3)
    draw_plane(left, mds)
    draw_plane(middle, pca)
    handles = _draw_pairs(right, mds, first, second, reference)
    right.set(xlabel=label_b, ylabel=label_a)
    headings = [Heading(group_handles(panel.groups), panel.title, panel.note) for panel in (mds, pca)]
    place_headings([left, middle, right], [*headings, Heading(handles, "every pair of models", note)])
    for axes, panel in ((left, mds), (middle, pca)):
        if panel.names is not None:
            label_points(axes, panel.points(), panel.names)
    return figure


def _distances(
    mds: EmbeddingPanel, pca: EmbeddingPanel, distances_a: Values, distances_b: Values
) -> tuple[FloatArray, FloatArray]:
    """Both distances as arrays, or what is wrong with them."""
    count = len(mds.groups)
    if list(mds.groups) != list(pca.groups) or count < 2:
        raise ValueError("both panels must show the same two or more models, in the same groups and order")
    found = as_array(distances_a), as_array(distances_b)
    for name, values in zip(("distances_a", "distances_b"), found, strict=True):
        if values.shape != (count, count):
            raise ValueError(f"{name} {list(values.shape)} must be [N, N] of the {count} models in the panels")
    return found


def _draw_pairs(
    axes: Axes, panel: EmbeddingPanel, first: FloatArray, second: FloatArray, emulators: FloatArray | None
) -> list[Artist]:
    """The first distance over the second; pairs within a group have its colour. Returns the entries of the legend."""
    names, styles = np.array(panel.groups), group_styles(panel.groups)
    one, other = np.triu_indices(len(names), 1)
    drawn = np.isfinite(first[one, other]) & np.isfinite(second[one, other])
    one, other = one[drawn], other[drawn]
    many = len(one) > 400
    handles: list[Artist] = []
    between = names[one] != names[other]
    if between.any():
        pair = (one[between], other[between])
        axes.scatter(
            second[pair],
            first[pair],
            s=10 if many else 20,
            facecolors="none",
            edgecolors=MUTED,
            linewidths=0.7,
            alpha=0.7,
            label="between groups",
            zorder=2,
        )
        handles.append(
            Line2D([], [], linestyle="", marker="o", markerfacecolor="none", color=MUTED, label="between groups")
        )
    for name, style in styles.items():
        inside = ~between & (names[one] == name)
        if not inside.any():
            continue
        pair, label = (one[inside], other[inside]), f"within {name}"
        axes.scatter(
            second[pair],
            first[pair],
            s=14 if many else 30,
            c=style.colour,
            marker=style.marker,
            edgecolors="white",
            linewidths=0.5,
            alpha=0.9,
            label=label,
            zorder=3,
        )
        handles.append(
            Line2D([], [], linestyle="", marker=style.marker, color=style.colour, markeredgecolor="white", label=label)
        )
    if emulators is not None and np.isfinite(emulators).any():
        middle = float(np.nanmedian(emulators))
        label = f" own emulator: {middle:.2f}"
        handles.append(axes.axhline(middle, color=INK, linestyle="--", linewidth=1.1, zorder=1, label=label))
    axes.margins(0.07)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    plain_axes(axes)
    return handles
