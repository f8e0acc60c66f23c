"""Who is in a population: `Member`, one trained network, and `MemberGroup`, how a configuration asks for several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dynamo.population.recurrence import GATES
from dynamo.types import Reader


@dataclass(frozen=True)
class Member:
    """What is known of one network of a population.

    Attributes:
        name: unique within the population; plots and errors use it.
        group: what the plots colour by.
        task: name of the task it was trained on.
        seed: of its initial weights and the order of its training items.
        fraction: share of the training split it was trained on, in (0, 1].
        subset_seed: which items made up that share.
        policy: augmentation policy of its training images; "none" for text.
        epoch: epochs trained so far; None where nobody knows.
        val_accuracy: on the validation split, in [0, 1]; None before it was measured.
        test_accuracy: on the test split, in [0, 1]; None before it was measured.
    """

    name: str
    group: str
    task: str
    seed: int = 0
    fraction: float = 1.0
    subset_seed: int = 0
    policy: str = "none"
    epoch: int | None = None
    val_accuracy: float | None = None
    test_accuracy: float | None = None

    @property
    def reader(self) -> Reader:
        """Which training items this member reads, and in which order."""
        return Reader(self.task, self.fraction, self.seed, self.subset_seed)


@dataclass(frozen=True)
class MemberGroup:
    """A group of members that differ in nothing but their seeds: one entry of `PopulationTask`'s `groups`.

    Attributes:
        name: of the group; its members are called `NAME-0`, `NAME-1`, ...
        count: how many members.
        task: which task they learn; may be left out where the data module has one only.
        architecture: gru, lstm or rnn.
        hidden_size: H.
        embedding_size: E, the length of a word vector.
        fraction: share of the training split each of them sees, in (0, 1].
        subset_seed: which items make up that share; the same for all members of the group, and nested between
            groups that share it.
        seed: of the group's first member; the others count up from it. By default groups get seeds that do not
            overlap, from their position in the list.
    """

    name: str
    count: int = 6
    task: str | None = None
    architecture: str = "gru"
    hidden_size: int = 64
    embedding_size: int = 32
    fraction: float = 1.0
    subset_seed: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, before anything is built."""
        where = f"group {self.name!r}"
        if self.count < 1:
            raise ValueError(f"{where}: count is {self.count}; a group needs at least 1 member.")
        if self.architecture not in GATES:
            raise ValueError(f"{where}: architecture is {self.architecture!r}; choose one of {', '.join(GATES)}.")
        if self.hidden_size < 1 or self.embedding_size < 1:
            raise ValueError(f"{where}: hidden_size and embedding_size have to be at least 1.")
        if not 0.0 < self.fraction <= 1.0:
            raise ValueError(f"{where}: fraction is {self.fraction}; it has to lie in (0, 1], 1 being all the data.")


SEEDS_PER_GROUP = 10_000
"""Distance between the first seeds of neighbouring groups."""


def expand(groups: Sequence[MemberGroup], tasks: Sequence[str]) -> list[tuple[MemberGroup, list[Member]]]:
    """Which members do the groups of a configuration ask for?

    Args:
        groups: as configured.
        tasks: the tasks of the data module.

    Returns:
        Every group with its members, in order.

    Raises:
        ValueError: two groups of one name, a group of an unknown task, or no group at all.
    """
    if not groups:
        raise ValueError("A population needs at least one group; list them under model.init_args.groups.")
    expanded: list[tuple[MemberGroup, list[Member]]] = []
    for position, group in enumerate(groups):
        if any(group.name == other.name for other, _ in expanded):
            raise ValueError(f"Two groups are called {group.name!r}; give each its own name.")
        if group.task is None and len(tasks) > 1:
            raise ValueError(f"group {group.name!r}: say which task it learns, one of {', '.join(tasks)}.")
        task = group.task or tasks[0]
        if task not in tasks:
            raise ValueError(f"group {group.name!r}: the data has no task {task!r}, only {', '.join(tasks)}.")
        first = position * SEEDS_PER_GROUP if group.seed is None else group.seed
        members = [
            Member(f"{group.name}-{i}", group.name, task, first + i, group.fraction, group.subset_seed)
            for i in range(group.count)
        ]
        expanded.append((group, members))
    return expanded
