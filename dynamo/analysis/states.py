"""Hidden states as a comparison of representations wants them: one `[samples, features]` per stage and network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor

from dynamo.analysis.emulator import Emulator
from dynamo.population.artifact import Population
from dynamo.types import TaskBatch, Trajectory

POSITIONS: Final = 64
"""So many positions of a feature map are samples, the same of every image; all where it has no more."""


def state_sizes(population: Population) -> list[list[int]]:
    """How many features has each base model in every stage?

    Args:
        population: N members.

    Returns:
        `[stage][member]`, the members in their order; one stage of H for recurrent networks.

    Raises:
        ValueError: the networks have different numbers of stages, which leaves nothing to compare stage by stage.

    Examples:
        >>> from dynamo import Population
        >>> from dynamo.analysis import state_sizes
        >>> from dynamo.population import RecurrentClassifier
        >>> networks = [RecurrentClassifier("gru", 9, 4, hidden_size=size, classes=2) for size in (3, 5)]
        >>> state_sizes(Population.from_modules(networks))
        [[3, 5]]
    """
    parts = zip(population.bundles, population.bundle_members, strict=True)
    stages = {members[0].name: len(bundle.hidden_sizes) for bundle, members in parts}
    if len(set(stages.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in stages.items())
        raise ValueError(f"states are compared stage by stage, and the numbers of stages differ: {told}; choose groups")
    each = [bundle.hidden_sizes for bundle in population.bundles for _ in range(bundle.count)]
    return [list(stage) for stage in zip(*each, strict=True)]


@torch.inference_mode()
def population_states(population: Population, batch: Mapping[str, TaskBatch], burn_in: int = 0) -> list[list[Tensor]]:
    """Which states do the base models visit on the same inputs?

    Every member reads the items of every task, also of those it was not trained on: a comparison of two networks
    needs their answers to one set of inputs, and the tasks of a population share their vocabulary.

    Of recurrent networks every real step is a sample. Of feature maps every position is one, so that channels are
    compared over positions; neighbours say nearly the same, so that of a large map 64 positions do (`POSITIONS`),
    drawn once and for all: the first stage of a ResNet has 1024.

    Args:
        population: N members.
        batch: items per task.
        burn_in: steps at the start of an item that do not count.

    Returns:
        `[stage][member]`, each `[samples, features]`: the members in their order, the samples of a stage the same
        for all.

    Raises:
        ValueError: as `state_sizes`.

    Examples:
        >>> import torch
        >>> from dynamo import Population, TaskBatch
        >>> from dynamo.analysis import population_states, svcca
        >>> from dynamo.population import RecurrentClassifier
        >>> network = RecurrentClassifier("gru", vocab_size=9, embedding_size=4, hidden_size=3, classes=2)
        >>> population = Population.from_modules([network, network], task="film")
        >>> words = torch.randint(2, 9, (20, 6))
        >>> stage, = population_states(population, {"film": TaskBatch(words, words[:, 0] % 2, torch.full((20,), 6))})
        >>> stage[0].shape, round(svcca(*stage).similarity, 6)  # 20 items of 6 steps; twins see the same
        (torch.Size([120, 3]), 1.0)
    """
    state_sizes(population)
    return _joined(
        [states for bundle in population.bundles for states in _samples(bundle(one), one.real_steps(burn_in))]
        for one in batch.values()
    )


@torch.inference_mode()
def emulator_states(
    network: Emulator, theta: Tensor, batch: Mapping[str, TaskBatch], burn_in: int = 0, at_once: int = 16
) -> list[list[Tensor]]:
    """Which states does the meta-model visit at these points, on the same inputs?

    Args:
        network: the trained meta-model.
        theta: points `[P, D]`.
        batch: items per task.
        burn_in: as in `population_states`.
        at_once: how many points run together; bounds memory.

    Returns:
        `[stage][point]`, each `[samples, features]`, the samples those of `population_states`.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import emulator_states
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, dimensions=3, hidden_size=8)
        >>> batch = {"film": TaskBatch(torch.tensor([[2, 3, 4], [5, 6, 0]]), torch.ones(2), torch.tensor([3, 2]))}
        >>> [states.shape for states in emulator_states(network, torch.zeros(2, 3), batch)[0]]  # 3 + 2 real steps
        [torch.Size([5, 8]), torch.Size([5, 8])]
    """
    return _joined(
        [
            states
            for chunk in theta.split(at_once)
            for states in _samples(network(chunk, one.inputs, task), one.real_steps(burn_in))
        ]
        for task, one in batch.items()
    )


def _samples(trajectory: Trajectory, real: Tensor) -> list[list[Tensor]]:
    """What counts of a trajectory: `[network][stage]`, each `[samples, features]`, with real steps `[B, T or 1]`."""
    stages = []
    for seen, steps in zip(trajectory.hidden, trajectory.in_steps().hidden, strict=True):
        chosen = steps if seen is steps else steps[:, :, _positions(steps.shape[2]).to(steps.device)]
        mask = real.expand(chosen.shape[1:3])
        stages.append([states[mask] for states in chosen])
    return [list(of_network) for of_network in zip(*stages, strict=True)]


def _joined(batches: Iterable[list[list[Tensor]]]) -> list[list[Tensor]]:
    """The samples of all batches together: from `[batch][network][stage]` to `[stage][network]`."""
    networks = zip(*batches, strict=True)
    joined = [[torch.cat(parts) for parts in zip(*of_batches, strict=True)] for of_batches in networks]
    return [list(stage) for stage in zip(*joined, strict=True)]


def _positions(count: int) -> Tensor:
    """Which of `count` positions of a feature map are samples, ascending, int64."""
    generator = torch.Generator().manual_seed(count)
    return torch.randperm(count, generator=generator)[:POSITIONS].sort().values
