"""How well do emulators follow their originals? Counted batch by batch, some members at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynamo.analysis.fidelity import Fidelity, FidelitySums
from dynamo.meta.comparison import Comparison, chunks
from dynamo.population.artifact import Population
from dynamo.types import TaskBatch

Batch = Mapping[str, TaskBatch]
Compare = Callable[[Batch, Sequence[Tensor]], Iterator[Comparison]]
"""Originals beside emulators: a batch, and per bundle the indices of the members that run."""


class Counted(NamedTuple):
    """What was counted of some members of one bundle.

    Attributes:
        select: per bundle the indices of the members, empty but for one bundle.
        sums: theirs.
    """

    select: list[Tensor]
    sums: FidelitySums


def begin_counting(population: Population, members_at_once: int) -> list[Counted]:
    """Nothing yet, of all members; so many run together, which bounds memory."""
    found = []
    for part in chunks(population, members_at_once):
        (bundle,) = (index for index, members in enumerate(part) if len(members))
        sizes = population.bundles[bundle].hidden_sizes
        found.append(Counted(part, FidelitySums(len(part[bundle]), sizes)))
    return found


def count_batch(counted: Iterable[Counted], compare: Compare, batch: Batch, burn_in: int) -> None:
    """Add one batch of labelled items; steps before `burn_in` do not count."""
    for select, sums in counted:
        for found in compare(batch, select):
            items = found.batch
            steps, lengths = (items.real_steps(burn_in), items.lengths) if items.sequential else (None, None)
            sums.update(found.original, found.mapped, found.emulated, items.targets, steps, lengths)


@torch.inference_mode()
def emulation(
    population: Population, compare: Compare, batches: Iterable[Batch], burn_in: int = 0, members_at_once: int = 32
) -> Fidelity:
    """How well are these networks emulated on these items?

    Args:
        population: the originals.
        compare: runs them beside their emulators; `MetaTask.compare`, or `compare_newcomers`.
        batches: labelled items.
        burn_in: steps at the start of an item that do not count.
        members_at_once: how many run together; bounds memory.

    Raises:
        ValueError: there is no item of a member's task.

    Examples:
        >>> import torch
        >>> from dynamo import Population, TaskBatch
        >>> from dynamo.analysis import emulation
        >>> from dynamo.meta import Comparison
        >>> from dynamo.population import RecurrentClassifier
        >>> population = Population.from_modules([RecurrentClassifier("gru", 9, 2, 3, 2)], task="film")
        >>> batch = {"film": TaskBatch(torch.tensor([[2, 3], [4, 5]]), torch.tensor([0, 1]), torch.tensor([2, 2]))}
        >>> def itself(batch, select):  # emulators that are their originals; `MetaTask.compare` has others
        ...     (states,) = population.run(batch, select)
        ...     yield Comparison(0, select[0], states, states.hidden, states.output, batch["film"])
        >>> found = emulation(population, itself, [batch])
        >>> found.variance_explained.tolist(), found.agreement.tolist()
        ([1.0], [1.0])
    """
    counted = begin_counting(population, members_at_once)
    for batch in batches:
        count_batch(counted, compare, batch, burn_in)
    return Fidelity.join([sums.result() for _, sums in counted])
