"""Hidden states as a comparison of representations wants them: one `[samples, features]` per network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.population.artifact import Population
from dynamo.types import TaskBatch


def state_sizes(population: Population) -> list[int]:
    """How many hidden units has each base model? H of every member, in the order of the members."""
    return [bundle.hidden_sizes[0] for bundle in population.bundles for _ in range(bundle.count)]


@torch.inference_mode()
def population_states(population: Population, batch: Mapping[str, TaskBatch], burn_in: int = 0) -> list[Tensor]:
    """Which states do the base models visit on the same inputs?

    Every member reads the items of every task, also of those it was not trained on: a comparison of two networks
    needs their answers to one set of inputs, and the tasks of a population share their vocabulary.

    Args:
        population: N members.
        batch: items per task.
        burn_in: steps at the start of an item that do not count.

    Returns:
        One `[samples, H_n]` per member, in the order of the members: real steps only, the same for all.
    """
    parts: list[list[Tensor]] = []
    for one in batch.values():
        mask = one.real_steps(burn_in)
        hidden = (bundle(one).hidden[0] for bundle in population.bundles)
        parts.append([states[mask] for stacked in hidden for states in stacked])
    return [torch.cat(of_member) for of_member in zip(*parts, strict=True)]


@torch.inference_mode()
def emulator_states(
    network: RecurrentMetaModel, theta: Tensor, batch: Mapping[str, TaskBatch], burn_in: int = 0, at_once: int = 16
) -> list[Tensor]:
    """Which states does the meta-model visit at these points, on the same inputs?

    Args:
        network: the trained meta-model.
        theta: points `[P, D]`.
        batch: items per task.
        burn_in: as in `population_states`.
        at_once: how many points run together; bounds memory.

    Returns:
        One `[samples, S]` per point, the samples those of `population_states`.
    """
    parts: list[list[Tensor]] = []
    for task, one in batch.items():
        mask = one.real_steps(burn_in)
        hidden = (network(chunk, one.inputs, task).hidden[0] for chunk in theta.split(at_once))
        parts.append([states[mask] for stacked in hidden for states in stacked])
    return [torch.cat(of_point) for of_point in zip(*parts, strict=True)]
