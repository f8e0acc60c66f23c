"""What watches a run: one question a file."""

from callbacks.accuracy_map import AccuracyMap
from callbacks.artifact import PopulationArtifact
from callbacks.checkpoint import RunCheckpoint
from callbacks.embedding_pca import EmbeddingPCA
from callbacks.fidelity import FidelityTable
from callbacks.graceful_stop import GracefulStop
from callbacks.introduction import Introduction
from callbacks.progress import EpochLine
from callbacks.results import StageResults
from callbacks.similarity_mds import SimilarityMDS
from callbacks.snapshots import Snapshots

__all__ = [
    "AccuracyMap",
    "EmbeddingPCA",
    "EpochLine",
    "FidelityTable",
    "GracefulStop",
    "Introduction",
    "PopulationArtifact",
    "RunCheckpoint",
    "SimilarityMDS",
    "Snapshots",
    "StageResults",
]
