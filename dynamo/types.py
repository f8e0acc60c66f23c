"""The words every part of the project shares: the dimension letters, `TaskBatch`, `Trajectory`, `Reader`.

Every docstring and shape comment uses these letters:

    N  models (base models, or points of the embedding)    B  batch (reviews, images)
    T  time steps                                          H  hidden units of a base model
    S  hidden units of the meta-model                      D  dimensions of the embedding
    C  classes                                             E  dimensions of a word vector
    F  features of a signal or vector
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

Reads = Literal["tokens", "signals", "vectors", "images"]
"""What a network is given: token ids `[B, T]`, numbers at every step `[B, T, F]`, numbers `[B, F]`, or images."""

SEQUENTIAL: Final = ("tokens", "signals")
"""What is read step by step."""


def reads_of(inputs: Tensor) -> Reads:
    """What are these inputs?"""
    if inputs.dim() >= 4:
        return "images"
    if not inputs.is_floating_point():
        return "tokens"
    return "signals" if inputs.dim() == 3 else "vectors"


class TaskBatch(NamedTuple):
    """One task's part of a batch; a batch is always a `dict[str, TaskBatch]` keyed by task name.

    The leading `N` is present when every member reads its own items (training a population) and absent
    when all members read the same ones (everything else).

    Attributes:
        inputs: token ids `[B, T]` or `[N, B, T]` (0 is padding, on the right), images `[B, channels, h, w]` or
            `[N, B, channels, h, w]`, or, of networks that were trained elsewhere, signals `[B, T, F]` or vectors
            `[B, F]`, float.
        targets: class indices `[B]` or `[N, B]`; in training, where images are mixed, also the share of every class
            `[B, C]` or `[N, B, C]`, float. -1 where nobody knows the class.
        lengths: real steps of every item, at least 1, `[B]` or `[N, B]`; for images and vectors 1.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> batch = TaskBatch(torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([1, 0]), lengths=torch.tensor([3, 1]))
        >>> batch.real_steps(burn_in=1)  # an item's last step always counts
        tensor([[False,  True,  True],
                [ True, False, False]])
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor

    @property
    def reads(self) -> Reads:
        """What the items are."""
        return reads_of(self.inputs)

    @property
    def sequential(self) -> bool:
        """Whether the items are read step by step: token ids or signals."""
        return self.reads in SEQUENTIAL

    def real_steps(self, burn_in: int = 0) -> Tensor:
        """Which steps are neither padding nor burn-in: bool `[..., B, T]`; of what has no steps all, `[..., B, 1]`.

        The last real step always counts, so that an item no longer than the burn-in is not lost.
        """
        longest = {"tokens": self.inputs.shape[-1], "signals": self.inputs.shape[1]}.get(self.reads, 1)
        steps = torch.arange(longest, device=self.inputs.device)
        last = self.lengths.unsqueeze(-1) - 1
        return (steps <= last) & (steps >= last.clamp(max=burn_in))


class Trajectory(NamedTuple):
    """What a network went through on a batch; population and meta-model return the same type.

    Attributes:
        hidden: one tensor per stage: `[N, B, T, H]` of what is read step by step, feature maps
            `[N, B, channels, height, width]` otherwise, of one position where a layer has no positions. Values at
            padded steps are meaningless.
        output: logits, `[N, B, T, C]` (a readout at every step) or `[N, B, C]`; C is 0 where networks have no answers.

    Examples:
        >>> import torch
        >>> from dynamo import Trajectory
        >>> maps = Trajectory(hidden=(torch.zeros(3, 2, 8, 4, 4),), output=torch.zeros(3, 2, 10))  # N = 3, B = 2
        >>> steps = maps.in_steps()
        >>> steps.hidden[0].shape, steps.output.shape  # 16 positions are 16 steps
        (torch.Size([3, 2, 16, 8]), torch.Size([3, 2, 1, 10]))
    """

    hidden: tuple[Tensor, ...]
    output: Tensor

    def in_steps(self) -> Trajectory:
        """The same with every stage as `[N, B, T, H]` and the output as `[N, B, T, C]`, whatever the network.

        The positions of a feature map are its steps (they share V_n as time steps do), one answer is one step. No
        copy is made of maps that lie in memory channels last.
        """
        hidden = tuple(h if h.dim() == 4 else h.movedim(2, -1).flatten(2, 3) for h in self.hidden)
        return Trajectory(hidden, self.output if self.output.dim() == 4 else self.output.unsqueeze(2))


@dataclass(frozen=True)
class Reader:
    """Which training items one consumer of a data module reads, and in which order.

    Attributes:
        task: name of the task.
        fraction: share of the training split, in (0, 1]; subsets of one `subset_seed` are nested and
            class-balanced.
        seed: decides the order of the items.
        subset_seed: decides which items make up a fraction below 1.
        policy: how its training images are augmented; "none" for text.

    Examples:
        >>> from dynamo import Reader
        >>> Reader("imdb", fraction=0.5, seed=3)  # half of the training reviews, in an order of its own
        Reader(task='imdb', fraction=0.5, seed=3, subset_seed=0, policy='none')
    """

    task: str
    fraction: float = 1.0
    seed: int = 0
    subset_seed: int = 0
    policy: str = "none"


@runtime_checkable
class HasReaders(Protocol):
    """A LightningModule whose members each read their own training items.

    A data module asks `trainer.lightning_module` for `readers`; where there are none, one common stream
    is drawn and batches have no leading `N`.
    """

    @property
    def readers(self) -> Sequence[Reader]:
        """One reader per member, in the order of the members; the members of one task form its `N`."""
        ...


@runtime_checkable
class HasCompany(HasReaders, Protocol):
    """One whose members are a part of a larger population, of which others are trained elsewhere.

    What all members of a step share (length bucket, width, form of the targets, steps per epoch) follows from
    `company`; items are read for `readers` alone. So a part is trained as the whole is.
    """

    @property
    def company(self) -> Sequence[Reader]:
        """One reader per member of the whole population, those of `readers` among them."""
        ...


class UserError(Exception):
    """Something the person at the keyboard can set right: the message names the culprit and the remedy.

    The command line prints it as one line, without a traceback.
    """


class OptionError(UserError, ValueError):
    """An option that turns out to be impossible once the data has been read."""
