"""How is a member drawn where only small pictures can be given? One picture of all, cut into cells by who shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dynamo.figures.style import group_styles
from dynamo.files import written_whole

CELL: Final = 64
"""Pixels along a side of a cell."""
LARGEST: Final = 128
"""Cells along a side of a picture that TensorBoard still reads."""


def save_group_sprite(groups: Sequence[str], path: Path) -> bool:
    """Writes the marker of every member's group in its colour, on nothing, row by row in a square of cells.

    Args:
        groups: one name per member.
        path: of the PNG.

    Returns:
        Whether it was written: of too many members there is none.
    """
    side = math.ceil(math.sqrt(len(groups)))
    if side > LARGEST:
        return False
    figure = Figure(figsize=(side, side), dpi=CELL)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, side), ylim=(side, 0))
    axes.axis("off")
    points = 72 / CELL  # of a pixel
    for name, style in group_styles(groups).items():
        own = [i for i, group in enumerate(groups) if group == name]
        axes.plot(
            [i % side + 0.5 for i in own],
            [i // side + 0.5 for i in own],
            linestyle="",
            marker=style.marker,
            color=style.colour,
            markersize=0.9 * CELL * points,
            markeredgecolor="white",
            markeredgewidth=3 * points,
        )
    with written_whole(path) as part:
        figure.savefig(part, format="png", dpi=CELL, transparent=True)
    return True
