"""Who is in a population: `Member`, one trained network, and `MemberGroup`, how a configuration asks for several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from dynamo.population.recurrence import GATES
from dynamo.population.recurrent import RecurrentBundle
from dynamo.population.residual import RESNET34_DEPTHS, RESNET34_WIDTHS, ResidualBundle, check_stages
from dynamo.types import Reader

SIZES: Final[dict[str, dict[str, Any]]] = {
    **{name: {"hidden_size": 64, "embedding_size": 32} for name in GATES},
    "resnet": {"widths": list(RESNET34_WIDTHS), "depths": list(RESNET34_DEPTHS)},
}
"""Architecture -> the sizes that a group can choose, with their defaults."""


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

    Examples:
        >>> from dynamo import Member
        >>> half = Member("50%-0", group="50%", task="imdb", seed=3, fraction=0.5)
        >>> half.reader
        Reader(task='imdb', fraction=0.5, seed=3, subset_seed=0, policy='none')
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
        return Reader(self.task, self.fraction, self.seed, self.subset_seed, self.policy)


@dataclass(frozen=True)
class MemberGroup:
    """A group of members that differ in nothing but their seeds: one entry of `PopulationTask`'s `groups`.

    Attributes:
        name: of the group; its members are called `NAME-0`, `NAME-1`, ...
        count: how many members.
        task: which task they learn; may be left out where the data module has one only.
        architecture: gru, lstm or rnn for text, resnet for images.
        hidden_size: H of a recurrent network; 64 by default.
        embedding_size: E of a recurrent network, the length of a word vector; 32 by default.
        widths: channels of a resnet's four stages; 64, 128, 256, 512 by default.
        depths: blocks of a resnet's four stages; 3, 4, 6, 3 (ResNet-34) by default.
        policy: how the training images of a resnet are augmented; the data module knows the names.
        fraction: share of the training split each of them sees, in (0, 1].
        subset_seed: which items make up that share; the same for all members of the group, and nested between
            groups that share it.
        seed: of the group's first member; the others count up from it. By default groups get seeds that do not
            overlap, from their position in the list.

    Raises:
        ValueError: a group that cannot be trained, or an option that its architecture does not have.

    Examples:
        >>> from dynamo import MemberGroup
        >>> MemberGroup("half", count=4, fraction=0.5).sizes
        {'hidden_size': 64, 'embedding_size': 32}
        >>> MemberGroup("none", fraction=0.0)
        Traceback (most recent call last):
        ValueError: group 'none': fraction is 0.0; it has to lie in (0, 1], 1 being all the data.
    """

    name: str
    count: int = 6
    task: str | None = None
    architecture: str = "gru"
    hidden_size: int | None = None
    embedding_size: int | None = None
    widths: list[int] | None = None
    depths: list[int] | None = None
    policy: str = "none"
    fraction: float = 1.0
    subset_seed: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, before anything is built."""
        where = f"group {self.name!r}"
        if self.count < 1:
            raise ValueError(f"{where}: count is {self.count}; a group needs at least 1 member.")
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"{where}: seed is {self.seed}; it cannot be negative.")
        if self.architecture not in SIZES:
            raise ValueError(f"{where}: architecture is {self.architecture!r}; choose one of {', '.join(SIZES)}.")
        if not 0.0 < self.fraction <= 1.0:
            raise ValueError(f"{where}: fraction is {self.fraction}; it has to lie in (0, 1], 1 being all the data.")
        own = SIZES[self.architecture]
        foreign = {name: getattr(self, name) for sizes in SIZES.values() for name in sizes if name not in own}
        if self.architecture != "resnet" and self.policy != "none":
            foreign["policy"] = self.policy
        for name, value in foreign.items():
            if value is not None:
                raise ValueError(f"{where}: a {self.architecture} has no {name}; leave {name} out ({value!r}).")
        if self.architecture == "resnet":
            try:
                check_stages(**self.sizes)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        elif min(self.sizes.values()) < 1:
            raise ValueError(f"{where}: hidden_size and embedding_size have to be at least 1.")

    @property
    def sizes(self) -> dict[str, Any]:
        """The sizes of this group's architecture, the defaults where none was chosen."""
        chosen = {name: getattr(self, name) for name in SIZES[self.architecture]}
        return {**SIZES[self.architecture], **{name: value for name, value in chosen.items() if value is not None}}

    def bundle(
        self, vocab_size: int, classes: int, embedding_scale: float
    ) -> tuple[type[RecurrentBundle] | type[ResidualBundle], dict[str, Any]]:
        """Which bundle holds its members, and the settings to build that with.

        Args:
            vocab_size: number of token ids; 0 where the data are images.
            classes: C.
            embedding_scale: standard deviation of fresh word vectors.

        Raises:
            ValueError: the architecture cannot read the data.
        """
        images, resnet = vocab_size == 0, self.architecture == "resnet"
        if images != resnet:
            kinds = ("images", "text") if resnet else ("text", "images")
            remedy = "resnet" if images else f"one of {', '.join(GATES)}"
            raise ValueError(
                f"group {self.name!r}: a {self.architecture} reads {kinds[0]}, and the data is {kinds[1]}; set its "
                f"architecture to {remedy}, or choose other data."
            )
        if resnet:
            return ResidualBundle, {**self.sizes, "classes": classes}
        words = {"vocab_size": vocab_size, "embedding_scale": embedding_scale}
        return RecurrentBundle, {"architecture": self.architecture, **words, **self.sizes, "classes": classes}


def group_means(tag: str, members: Sequence[Member], values: Tensor) -> dict[str, Tensor]:
    """What is the mean of the members' values over each group? NaN, where a member has none, is left out.

    Args:
        tag: what the values are.
        members: N of them.
        values: `[N]`.

    Returns:
        `TAG/GROUP` -> mean, as they are logged.
    """
    groups: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        groups.setdefault(member.group, []).append(index)
    return {f"{tag}/{name}": values[indices].nanmean() for name, indices in groups.items()}


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
            Member(f"{group.name}-{i}", group.name, task, first + i, group.fraction, group.subset_seed, group.policy)
            for i in range(group.count)
        ]
        expanded.append((group, members))
    return expanded
