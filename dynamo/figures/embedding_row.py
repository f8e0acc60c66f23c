"""Several embeddings side by side, each with its spectrum (Figures 3, 4, 9 and 10)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamo.figures.embedding_plane import EmbeddingPanel, draw_plane, draw_spectrum, place_titles
from dynamo.figures.labels import label_points
from dynamo.figures.style import INK, new_figure

_WIDTH = 2.9
_HEIGHT = 4.3


def embedding_row(*rows: Sequence[EmbeddingPanel], row_titles: Sequence[str] | None = None) -> Figure:
    """How do several embeddings compare: other populations beside each other, another loss in the row below?

    Args:
        rows: one sequence of panels per row: a single row for Figure 3; for Figure 9 the panels with
            lambda = 1 above the same ones with lambda = 0. Rows are equally long.
        row_titles: written left of each row, such as "λ = 1" and "λ = 0".

    Raises:
        ValueError: if rows are empty or not equally long, or titles and rows differ in number.

    Source: Figures 3 and 9 of the paper; Figures 4 and 10 by the same layout.

    Examples:
        >>> from dynamo.figures import EmbeddingPanel, embedding_row
        >>> panels = [EmbeddingPanel([[0.0, 1.0], [2.0, 3.0]], ["a", "b"], title=title) for title in ("sizes", "tasks")]
        >>> figure = embedding_row(panels, panels, row_titles=["lambda = 1", "lambda = 0"])
        >>> len(figure.subfigs), [axes.get_title() for axes in figure.subfigs[0].axes[:2]]
        (2, ['sizes', 'tasks'])
    """
    columns = {len(row) for row in rows}
    if len(columns) != 1 or 0 in columns:
        raise ValueError(f"rows must hold equally many panels, got {[len(row) for row in rows]}")
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(f"{len(row_titles)} titles for {len(rows)} rows")
    width = columns.pop()
    figure = new_figure(_WIDTH * width + 0.3, _HEIGHT * len(rows))
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
    bands = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    named: list[tuple[Axes, EmbeddingPanel]] = []
    for index, (band, row) in enumerate(zip(bands, rows, strict=True)):
        axes = band.subplots(2, width, height_ratios=[2.6, 1], squeeze=False)
        for column, panel in enumerate(row):
            draw_plane(axes[0, column], panel)
            if panel.spectrum is None:
                axes[1, column].set_axis_off()
            else:
                draw_spectrum(axes[1, column], panel)
                axes[1, column].set_ylabel("variance" if column == 0 else "")
        place_titles(list(axes[0]), row)
        if row_titles is not None:
            band.supylabel(row_titles[index], fontsize=11, fontweight="bold", color=INK)
        named += list(zip(axes[0], row, strict=True))
    for plane, panel in named:
        if panel.names is not None:
            label_points(plane, panel.points(), panel.names)
    return figure
