"""What all figures share: colours and markers of groups, sizes, and how a picture is written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor

FloatArray = npt.NDArray[np.float64]
Values = Tensor | npt.ArrayLike

INK = "#222222"
MUTED = "#6b6b6b"
DPI = 150
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
"""Okabe and Ito's palette, told apart with any kind of colour vision, without black and yellow."""
_MARKERS = ("o", "s", "^", "D", "v", "X", "p")


class GroupStyle(NamedTuple):
    """How one group looks, in every figure: the marker says again what the colour says."""

    colour: str
    marker: str


def group_styles(groups: Sequence[str]) -> dict[str, GroupStyle]:
    """Which colour and marker has each group? Given out in order of first appearance.

    Up to seven groups have the colours of Okabe and Ito; of more, all are spread over viridis.

    Args:
        groups: one name per point, repetitions included.

    Examples:
        >>> from dynamo.figures import group_styles
        >>> styles = group_styles(["GRU", "RNN", "GRU"])
        >>> list(styles), styles["GRU"].colour, styles["RNN"].marker
        (['GRU', 'RNN'], '#0072B2', 's')
    """
    names = list(dict.fromkeys(groups))
    if len(names) <= len(_COLOURS):
        colours = list(_COLOURS)
    else:
        colours = [to_hex(colormaps["viridis"](share)) for share in np.linspace(0, 0.95, len(names))]
    return {name: GroupStyle(colours[i], _MARKERS[i % len(_MARKERS)]) for i, name in enumerate(names)}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, laid out so that nothing overlaps; without pyplot.

    Examples:
        >>> from dynamo.figures import new_figure
        >>> new_figure(6, 4).get_size_inches().tolist()
        [6.0, 4.0]
    """
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def root_figure(axes: Axes) -> Figure:
    """The whole figure these axes are in, also from inside a subfigure."""
    figure = axes.figure.figure
    if not isinstance(figure, Figure):
        raise TypeError("these axes belong to no figure")
    return figure


def plain_axes(axes: Axes) -> None:
    """Takes away what carries no information: upper and right frame, strong ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=8, length=3)
    axes.xaxis.label.set(color=INK, fontsize=9)
    axes.yaxis.label.set(color=INK, fontsize=9)


def as_array(values: Values) -> FloatArray:
    """A tensor or array as float64 numpy, whatever its device and gradient."""
    if isinstance(values, Tensor):
        return values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def save_png(figure: Figure, path: Path | str) -> Path:
    """Writes the picture whole or not at all, and makes missing folders.

    Returns:
        The path written.

    Examples:
        >>> from dynamo.figures import new_figure, save_png
        >>> path = save_png(new_figure(2, 1), "figures/empty.png")
        >>> path.read_bytes()[1:4]
        b'PNG'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            figure.savefig(file, format="png", dpi=DPI, facecolor="white")
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
