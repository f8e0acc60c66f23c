"""Fixed points of one network over its states: one panel beside the plane of the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from dynamo.figures.plane_map import DIVERGING
from dynamo.figures.style import INK, MUTED, FloatArray, Values, as_array, plain_axes

_LOWEST = 0.45
"""Panels are at least this share as high as wide: room to see the tilt of a line that hardly has any."""


@dataclass(frozen=True)
class AttractorPanel:
    """What is drawn of the attractor at one point of the embedding.

    Attributes:
        points: fixed points in the principal axes of the states `[U, 2 or 3]`, U may be 0.
        values: what they are coloured by, such as the positive minus the negative logit `[U]`.
        name: short, and the name of a mark in the plane where it has one.
        note: numbers for small print below the name, such as "dim 1.1, length 2.3".
        group: whose colour the name has; None for black.
        trajectories: states in the same axes, for a faint background: paths `[B, T, 2 or 3]` or points
            `[M, 2 or 3]`; cut at the frame, NaN for no state.

    Examples:
        >>> import torch
        >>> from dynamo.figures import AttractorPanel
        >>> line = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
        >>> AttractorPanel(line, values=line[:, 0], name="X", trajectories=torch.randn(4, 7, 2)).background().shape
        (4, 7, 2)
    """

    points: Values
    values: Values
    name: str
    note: str | None = None
    group: str | None = None
    trajectories: Values | None = None

    def arrays(self) -> tuple[FloatArray, FloatArray]:
        """Points `[U, 2 or 3]` and values `[U]`.

        Raises:
            ValueError: if they do not fit together or are not finite.
        """
        points, values = as_array(self.points), as_array(self.values)
        if points.ndim != 2 or points.shape[1] not in (2, 3) or values.shape != points.shape[:1]:
            shapes = f"points {list(points.shape)} and values {list(values.shape)}"
            raise ValueError(f'panel "{self.name}": {shapes} must be [U, 2 or 3] and [U]')
        if not (np.isfinite(points).all() and np.isfinite(values).all()):
            raise ValueError(f'panel "{self.name}": leave away fixed points that are not finite')
        return points, values

    def background(self) -> FloatArray:
        """The states as paths `[B, T, 2 or 3]`; lone states are paths of one step.

        Raises:
            ValueError: if they do not have the axes of the points.
        """
        points = self.arrays()[0]
        if self.trajectories is None:
            return np.zeros((0, 1, points.shape[1]))
        states = as_array(self.trajectories)
        if states.ndim not in (2, 3) or states.shape[-1] != points.shape[1]:
            raise ValueError(f'panel "{self.name}": trajectories {list(states.shape)} must have the axes of the points')
        return states if states.ndim == 3 else states[:, None]


def common_limits(panels: Sequence[AttractorPanel]) -> FloatArray:
    """One frame for all panels, with some room, no flatter than can be read `[2 or 3, 2]`."""
    points = np.concatenate([panel.arrays()[0] for panel in panels])
    if not len(points):
        points = np.concatenate([panel.background().reshape(-1, points.shape[1]) for panel in panels])
        points = points[np.isfinite(points).all(1)]
    if not len(points):
        points = np.array([[-1.0], [1.0]]).repeat(points.shape[1], 1)
    low, high = points.min(0), points.max(0)
    spans = high - low
    spans = 1.2 * np.maximum(spans, _LOWEST * spans.max() or 1.0)
    return np.stack([(low + high - spans) / 2, (low + high + spans) / 2], 1)


def draw_attractor(axes: Any, panel: AttractorPanel, ends: FloatArray, norm: Normalize) -> None:  # noqa: ANN401
    """Fixed points over faint states, at equal scale; `axes` are of two or of three dimensions."""
    points, values = panel.arrays()
    states = panel.background()
    inside = ((states >= ends[:, 0]) & (states <= ends[:, 1])).all(-1, keepdims=True)
    gaps = np.full((len(states), 1, len(ends)), np.nan)  # keeps one path from going over into the next
    shown = np.concatenate([np.where(inside, states, np.nan), gaps], 1).reshape(-1, len(ends))
    look = {"linestyle": "", "marker": "."} if states.shape[1] == 1 else {"linewidth": 0.5}
    axes.plot(*shown.T, color=MUTED, alpha=0.25, markersize=2, zorder=1, **look)
    order = np.argsort(values, kind="stable")
    solid = {"depthshade": False} if len(ends) == 3 else {}  # a paler colour would be read as another value
    axes.scatter(
        *points[order].T,
        c=values[order],
        cmap=DIVERGING,
        norm=norm,
        s=16,
        edgecolors=INK,
        linewidths=0.3,
        zorder=2,
        **solid,
    )
    for name, (low, high) in zip("xyz", ends, strict=False):
        axes.set(**{f"{name}lim": (low, high)})
    if len(ends) == 3:
        axes.set_box_aspect(ends[:, 1] - ends[:, 0], zoom=1.2)
        # No numbers, by visibility: matplotlib 3.8 lays out even empty ones, at places it knows only after drawing.
        axes.tick_params(labelbottom=False, labelleft=False)
        axes.zaxis.set_tick_params(label1On=False)
        return
    axes.set_aspect("equal", adjustable="box")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    plain_axes(axes)
    if not len(points):
        axes.text(0.5, 0.5, "no fixed point", transform=axes.transAxes, ha="center", va="center", color=MUTED, size=8)
