"""Arrays to pictures: one function per kind of figure, on matplotlib's own `Figure`, never pyplot."""

from dynamo.figures.attractor_panel import AttractorPanel
from dynamo.figures.averaging_chart import AveragingChart, averaging_chart
from dynamo.figures.distance_panels import distance_panels
from dynamo.figures.embedding_plane import EmbeddingPanel, embedding_plane
from dynamo.figures.embedding_row import embedding_row
from dynamo.figures.fidelity_bars import fidelity_bars
from dynamo.figures.label_search import LabelCurve, LabelSearch, label_search
from dynamo.figures.line_attractors import PlanePoints, line_attractors
from dynamo.figures.map_panel import map_panel
from dynamo.figures.newcomers_plane import NewcomersPanel, newcomers_plane
from dynamo.figures.plane_map import PlaneMap, plane_map, plane_map_row
from dynamo.figures.style import group_styles, new_figure, save_png
from dynamo.figures.truth_chart import truth_chart

__all__ = [
    "AttractorPanel",
    "AveragingChart",
    "EmbeddingPanel",
    "LabelCurve",
    "LabelSearch",
    "NewcomersPanel",
    "PlaneMap",
    "PlanePoints",
    "averaging_chart",
    "distance_panels",
    "embedding_plane",
    "embedding_row",
    "fidelity_bars",
    "group_styles",
    "label_search",
    "line_attractors",
    "map_panel",
    "new_figure",
    "newcomers_plane",
    "plane_map",
    "plane_map_row",
    "save_png",
    "truth_chart",
]
