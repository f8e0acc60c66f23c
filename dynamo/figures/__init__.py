"""Arrays to pictures: one function per kind of figure, on matplotlib's own `Figure`, never pyplot."""

from dynamo.figures.embedding_plane import EmbeddingPanel, embedding_plane
from dynamo.figures.embedding_row import embedding_row
from dynamo.figures.fidelity_bars import fidelity_bars
from dynamo.figures.map_panel import map_panel
from dynamo.figures.style import group_styles, new_figure, save_png

__all__ = [
    "EmbeddingPanel",
    "embedding_plane",
    "embedding_row",
    "fidelity_bars",
    "group_styles",
    "map_panel",
    "new_figure",
    "save_png",
]
