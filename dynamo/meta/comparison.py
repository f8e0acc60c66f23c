"""What lies side by side when emulators are held against their originals, and how far apart it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from dynamo.meta.alignment import Alignment
from dynamo.meta.losses import Distance, hidden_loss, output_loss
from dynamo.population.artifact import Population
from dynamo.population.base import last_step
from dynamo.types import TaskBatch, Trajectory

Network = Callable[[Tensor, Tensor, str], Trajectory]
"""F and G: what the networks at points `[P, D]` do on inputs of a task."""


class Losses(NamedTuple):
    """How far are some emulators from their originals?

    Attributes:
        hidden: L_hidden of every member, the mean over stages, `[n]`.
        output: L_output of every member, `[n]`.
    """

    hidden: Tensor
    output: Tensor


class Comparison(NamedTuple):
    """Some members of one bundle beside their emulators, on one batch.

    Attributes:
        bundle: index of the bundle.
        members: indices of the members inside the bundle, `[n]`.
        original: what the base models did.
        mapped: V_n(s) of every stage, in the shapes of `original.hidden`: `[n, B, T, H]` or `[n, B, channels, h, w]`.
        emulated: logits of the emulators, in the shape of `original.output`: `[n, B, T, C]` or `[n, B, C]`; with
            lambda = 0, in evaluation, what the members' own readouts say of `mapped`.
        batch: the items.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch, Trajectory
        >>> from dynamo.meta import Comparison
        >>> states, logits = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 2)  # N = 1, B = 2, T = 3, H = 4, C = 2
        >>> items = TaskBatch(torch.zeros(2, 3).long(), torch.tensor([0, 1]), torch.tensor([3, 2]))
        >>> itself = Comparison(0, torch.tensor([0]), Trajectory((states,), logits), (states,), logits, items)
        >>> itself.losses(spread=torch.ones(1, 1), distance="l2", burn_in=0)  # an emulator that is its original
        Losses(hidden=tensor([0.]), output=tensor([0.]))
    """

    bundle: int
    members: Tensor
    original: Trajectory
    mapped: tuple[Tensor, ...]
    emulated: Tensor
    batch: TaskBatch

    def losses(self, spread: Tensor, distance: Distance, burn_in: int) -> Losses:
        """L_hidden and L_output of these members.

        Args:
            spread: what L_hidden is divided by, `[n, stages]`; ones for the raw distance.
            distance: d.
            burn_in: steps at the start of an item that do not count.
        """
        mask = self.batch.real_steps(burn_in) if self.batch.sequential else None
        original, mapped = self.original.in_steps(), Trajectory(self.mapped, self.emulated).in_steps()
        each = [
            hidden_loss(mine, theirs, mask, spread[:, stage], distance)
            for stage, (mine, theirs) in enumerate(zip(mapped.hidden, original.hidden, strict=True))
        ]
        told = mask if self.original.output.dim() == 4 else None  # a network may read many steps and answer once
        return Losses(torch.stack(each).mean(0), output_loss(mapped.output, original.output, told))


def compared(
    population: Population,
    network: Network,
    theta: Tensor,
    alignments: nn.ModuleList,
    batch: Mapping[str, TaskBatch],
    select: Sequence[Tensor] | None = None,
    *,
    own_readouts: bool = False,
) -> Iterator[Comparison]:
    """What do originals and emulators do on the same items? Bundle after bundle.

    Args:
        population: the originals.
        network: F and G.
        theta: where the emulators lie, `[N, D]`, in the order of the members.
        alignments: V_n, `[bundle][stage]`.
        batch: items per task; bundles whose task is not in it are left out.
        select: per bundle the indices of the members that run; all by default.
        own_readouts: the members' own readouts answer for the emulators, from V_n(s): whether the emulated states
            carry the members' decisions. What is asked where lambda is 0 and nothing has trained G.
    """
    originals = population.run(batch, select)
    for index, (original, task) in enumerate(zip(originals, population.tasks, strict=True)):
        if original is None:
            continue
        members = torch.arange(population.bundles[index].count) if select is None else select[index]
        members = members.to(theta.device)
        states = network(theta[members + first_member(population, index)], batch[task].inputs, task)
        maps = stages_of(alignments, index)
        mapped = tuple(alignment.stage(h, members) for alignment, h in zip(maps, states.hidden, strict=True))
        output, bundle = states.output, population.bundles[index]
        if own_readouts and bundle.classes:
            output = bundle.read_out(mapped[-1], members)
        if original.output.dim() == 3:
            output = last_step(output, batch[task].lengths)
        yield Comparison(index, members, original, mapped, output, batch[task])


def stages_of(alignments: nn.ModuleList, bundle: int) -> list[Alignment]:
    """V_n of the members of a bundle, stage by stage."""
    return list(cast(Iterable[Alignment], alignments[bundle]))


def first_member(population: Population, bundle: int) -> int:
    """Which row of theta belongs to a bundle's first member?"""
    return sum(other.count for other in population.bundles[:bundle])


def chunks(population: Population, size: int = 32) -> Iterator[list[Tensor]]:
    """All members in parts of at most `size`, as `compared` selects them; bounds memory in evaluation."""
    for index, bundle in enumerate(population.bundles):
        for part in torch.arange(bundle.count).split(size):
            empty = part[:0]
            yield [part if other == index else empty for other in range(len(population.bundles))]
