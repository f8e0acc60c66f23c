"""DYNAMO: a population of trained networks becomes a map, every network a point of it.

The flow, which is also the reading order of the code:

    datamodules            texts or images become batches of indices, gathered on the device
    dynamo.population      N networks are trained, or brought along; a batch in, N trajectories out
    dynamo.meta            one network learns to emulate them all, given theta
    dynamo.analysis        what the space of theta shows: arrays in, numbers out
    dynamo.figures         numbers become pictures
    callbacks              watch a run and draw as it goes
    dynamo.cli             starts everything: fit, test, analyze, reproduce

Method: Cotler et al., "Analyzing Populations of Neural Networks via Dynamical Model Embedding", arXiv 2302.14078.
"""

from dynamo.meta import MetaTask
from dynamo.population import Member, MemberGroup, Population, PopulationTask, from_checkpoints, observe
from dynamo.types import Reader, TaskBatch, Trajectory

__version__ = "0.1.0"

__all__ = [
    "Member",
    "MemberGroup",
    "MetaTask",
    "Population",
    "PopulationTask",
    "Reader",
    "TaskBatch",
    "Trajectory",
    "from_checkpoints",
    "observe",
]
