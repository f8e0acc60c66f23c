"""The networks that are studied: batches in, trajectories out."""

from dynamo.population.artifact import Population
from dynamo.population.base import Bundle
from dynamo.population.checkpoints import from_checkpoints
from dynamo.population.hooks import Observe, ReadOut, observe
from dynamo.population.manifest import PopulationError
from dynamo.population.members import Member, MemberGroup
from dynamo.population.modules import ModuleBundle
from dynamo.population.optimisation import DivergenceError
from dynamo.population.recurrent import RecurrentBundle, RecurrentClassifier
from dynamo.population.residual import ResidualBundle, ResidualClassifier
from dynamo.population.sources import load_populations
from dynamo.population.task import PopulationTask

__all__ = [
    "Bundle",
    "DivergenceError",
    "Member",
    "MemberGroup",
    "ModuleBundle",
    "Observe",
    "Population",
    "PopulationError",
    "PopulationTask",
    "ReadOut",
    "RecurrentBundle",
    "RecurrentClassifier",
    "ResidualBundle",
    "ResidualClassifier",
    "from_checkpoints",
    "load_populations",
    "observe",
]
