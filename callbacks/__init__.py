"""What watches a run: one question a file."""

from callbacks.artifact import PopulationArtifact
from callbacks.checkpoint import RunCheckpoint
from callbacks.embedding_pca import EmbeddingPCA
from callbacks.fidelity import FidelityTable
from callbacks.progress import EpochLine
from callbacks.results import StageResults
from callbacks.snapshots import Snapshots

__all__ = [
    "EmbeddingPCA",
    "EpochLine",
    "FidelityTable",
    "PopulationArtifact",
    "RunCheckpoint",
    "Snapshots",
    "StageResults",
]
