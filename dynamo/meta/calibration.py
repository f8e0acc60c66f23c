"""Where do the members' states lie, and how far do they spread? What normalises L_hidden and starts V_n."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynamo.meta.comparison import chunks, first_member, stages_of
from dynamo.meta.losses import Distance, hidden_distance, masked_mean
from dynamo.population.artifact import Population
from dynamo.population.manifest import PopulationError
from dynamo.types import TaskBatch


class Spread(NamedTuple):
    """States of some members of one bundle, over the items of a calibration batch.

    Attributes:
        bundle: index of the bundle.
        members: indices of the members inside the bundle, `[n]`.
        means: mean state of every stage, `[n, H]`.
        spreads: mean distance d of the states from their mean, `[n, stages]`.
    """

    bundle: int
    members: Tensor
    means: tuple[Tensor, ...]
    spreads: Tensor


@torch.no_grad()
def calibrate(
    population: Population,
    batch: Mapping[str, TaskBatch],
    alignments: nn.ModuleList,
    burn_in: int,
    distance: Distance,
) -> Tensor:
    """What is L_hidden of every member divided by? Starts V_n at the mean of its states besides.

    Args:
        population: the members.
        batch: calibration items per task, on the population's device.
        alignments: V_n, `[bundle][stage]`; changed.
        burn_in: steps at the start of an item that do not count.
        distance: d.

    Returns:
        The spread of every member and stage, `[N, stages]`.

    Raises:
        PopulationError: the states of a member never change.
    """
    names = [member.name for member in population.members]
    device = next(iter(batch.values())).inputs.device
    measured = torch.ones(len(names), len(population.bundles[0].hidden_sizes), device=device)
    for found in spreads(population, batch, chunks(population), burn_in, distance):
        members = found.members.to(device)
        index = members + first_member(population, found.bundle)
        still = [names[int(i)] for i in index[(found.spreads < 1e-12).any(1)]]
        if still:
            raise PopulationError(f"The states of {', '.join(still)} never change; there is nothing to emulate.")
        measured[index] = found.spreads.to(measured)
        for alignment, mean in zip(stages_of(alignments, found.bundle), found.means, strict=True):
            alignment.start_at(mean, members)
    return measured


@torch.no_grad()
def spreads(
    population: Population,
    batch: Mapping[str, TaskBatch],
    parts: Iterator[Sequence[Tensor]],
    burn_in: int,
    distance: Distance,
) -> Iterator[Spread]:
    """How far do the states of every member and stage spread?

    Args:
        population: the members.
        batch: items per task, on the population's device.
        parts: which members run together, see `chunks`.
        burn_in: steps at the start of an item that do not count.
        distance: d.
    """
    for chunk in parts:
        for index, original in enumerate(population.run(batch, chunk)):
            if original is None:
                continue
            mask = batch[population.tasks[index]].real_steps(burn_in)
            means, found = [], []
            for states in original.in_steps().hidden:
                counted = mask.expand(*states.shape[1:3])
                weight = counted[None, :, :, None].to(states)
                mean = (states * weight).sum((1, 2)) / weight.sum()
                means.append(mean.clone())  # made under inference_mode, which autograd would refuse to keep
                found.append(masked_mean(hidden_distance(states, mean[:, None, None], distance), counted))
            yield Spread(index, chunk[index], tuple(means), torch.stack(found, dim=1).clone())
