"""The one network that emulates a population, conditioned on theta."""

from dynamo.meta.alignment import AffineAlignment, Alignment, IdentityAlignment, MLPAlignment
from dynamo.meta.comparison import Comparison
from dynamo.meta.embedding import ModelEmbedding
from dynamo.meta.losses import hidden_loss, output_loss
from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.meta.residual import ResidualMetaModel
from dynamo.meta.task import MetaTask

__all__ = [
    "AffineAlignment",
    "Alignment",
    "Comparison",
    "IdentityAlignment",
    "MLPAlignment",
    "MetaTask",
    "ModelEmbedding",
    "RecurrentMetaModel",
    "ResidualMetaModel",
    "hidden_loss",
    "output_loss",
]
