"""What does an analysis ask of a meta-model, and can the network answer to these items?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from dynamo.types import Reads, TaskBatch, Trajectory


class Emulator(Protocol):
    """What the map asks of a meta-model of any kind.

    Examples:
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(vocab_size=9, classes={"film": 2}, dimensions=4, hidden_size=16)
        >>> network.dimensions, network.classes, network.vocabulary, network.hidden_sizes
        (4, {'film': 2}, 9, (16,))
    """

    @property
    def dimensions(self) -> int:
        """D."""
        ...

    @property
    def classes(self) -> Mapping[str, int]:
        """C of every task that it knows."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of token ids, 0 where it reads something else."""
        ...

    @property
    def reads(self) -> Reads:
        """What its items are."""
        ...

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """Of every stage `(h, w)` where it is a feature map, else `()`."""
        ...

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Its units in every stage of `Trajectory.hidden`: `(S,)` where it is recurrent."""
        ...

    def __call__(self, theta: Tensor, inputs: Tensor, task: str) -> Trajectory:
        """What the networks at points `[P, D]` go through on the same inputs, each with a batch `B`."""
        ...

    def prepare(self, inputs: Tensor) -> Tensor:
        """What does not depend on theta, once per batch."""
        ...

    def answers(self, theta: Tensor, prepared: Tensor, lengths: Tensor, task: str) -> Tensor:
        """Logits `[P, B, C]` of the networks at points `[P, D]`, after each item's last real step."""
        ...


def check_task(network: Emulator, task: str) -> None:
    """Refuse a task that the network has no readout for.

    Raises:
        ValueError: so it is.
    """
    if task not in network.classes:
        raise ValueError(f"the meta-model has no task {task!r}; it knows {', '.join(network.classes)}")


def check_labelled(network: Emulator, task: str, items: TaskBatch) -> None:
    """Refuse items of a task that the network cannot read or cannot be right about.

    Raises:
        ValueError: there are none, or one has a token or a target that the network does not know.
    """
    if not len(items.targets):
        raise ValueError(f"a batch of task {task!r} holds 0 items; leave it out")
    if items.reads != network.reads:
        raise ValueError(f"a batch of task {task!r} holds {items.reads}, and the meta-model reads {network.reads}")
    if items.reads == "tokens":
        check_tokens(items.inputs, network.vocabulary)
    low, high, classes = int(items.targets.min()), int(items.targets.max()), network.classes[task]
    if classes == 0:
        raise ValueError(f"the networks of task {task!r} have no answers, which could be right or wrong")
    if high == -1:
        raise ValueError(f"the items of task {task!r} have no labels; give the data module targets")
    if low < 0 or high >= classes:
        raise ValueError(f"target {low if low < 0 else high} is none of the classes 0..{classes - 1} of task {task!r}")


def check_tokens(ids: Tensor, vocabulary: int) -> None:
    """Refuse ids that no word vector belongs to.

    Raises:
        ValueError: there is one.
    """
    if len(outside := ids[(ids < 0) | (ids >= vocabulary)]):
        raise ValueError(f"token id {int(outside[0])} lies outside the vocabulary of {vocabulary} words")
