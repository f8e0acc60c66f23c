"""The one network that emulates a population, conditioned on theta."""

from dynamo.meta.alignment import AffineAlignment, Alignment, IdentityAlignment, MLPAlignment
from dynamo.meta.comparison import Comparison
from dynamo.meta.embedding import ModelEmbedding
from dynamo.meta.losses import hidden_loss, output_loss
from dynamo.meta.matching import matching_network
from dynamo.meta.perceptron import PerceptronMetaModel
from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.meta.residual import ResidualMetaModel
from dynamo.meta.task import MetaTask
from dynamo.meta.transformer import TransformerMetaModel

__all__ = [
    "AffineAlignment",
    "Alignment",
    "Comparison",
    "IdentityAlignment",
    "MLPAlignment",
    "MetaTask",
    "ModelEmbedding",
    "PerceptronMetaModel",
    "RecurrentMetaModel",
    "ResidualMetaModel",
    "TransformerMetaModel",
    "hidden_loss",
    "matching_network",
    "output_loss",
]
