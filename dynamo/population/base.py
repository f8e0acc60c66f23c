"""What a bundle is: the members of one architecture and one task, which run together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor, nn

from dynamo.types import Reads, TaskBatch, Trajectory

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Logits `[n, B, C]` and the targets of a `TaskBatch` -> every network's loss `[n]`."""

SUM_TOLERANCE: Final = 1e-6
"""Shares may miss 1 by this much, as those that were summed in float32 do."""


class Bundle(nn.Module, ABC):
    """N networks of one architecture that run together.

    Their parameters carry a leading `N`; a subclass that keeps its networks apart (`ModuleBundle`) has its own `join`,
    `take` and `averaged`.

    Attributes:
        kind: name of the subclass in a manifest.
        reads: what the inputs of its networks are.
        count: `N`.

    Examples:
        >>> import torch
        >>> from dynamo.population import RecurrentBundle
        >>> bundle = RecurrentBundle(3, "gru", vocab_size=9, embedding_size=4, hidden_size=3, classes=2)
        >>> bundle.initialise([0, 1, 2])
        >>> both = bundle.take([2]).join([bundle.take([0])])  # members 2 and 0, in this order
        >>> both.count, bool(torch.equal(both.embedding[0], bundle.embedding[2]))
        (2, True)
    """

    kind: ClassVar[str]
    reads: Reads = "tokens"
    count: int

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything but the count and the weights that `build` needs; plain JSON values."""

    @classmethod
    @abstractmethod
    def build(cls, count: int, settings: dict[str, Any]) -> Self:
        """A bundle of `count` untrained networks with these settings."""

    @property
    @abstractmethod
    def hidden_sizes(self) -> tuple[int, ...]:
        """How many features each stage of `Trajectory.hidden` has: `(H,)` for a recurrent network."""

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """Of every stage: `(h, w)` of a feature map, `()` of anything else."""
        return ((),) * len(self.hidden_sizes)

    @property
    @abstractmethod
    def classes(self) -> int:
        """C, the number of classes of the readout; 0 where there is none."""

    @property
    def has_readout(self) -> bool:
        """Whether `read_out` can answer: False only for networks whose readout nobody has named."""
        return True

    @abstractmethod
    def forward(self, batch: TaskBatch, select: Tensor | None = None) -> Trajectory:
        """Run the members on a batch.

        Args:
            batch: with a leading `N` where every (selected) member has its own items.
            select: indices of the members that run, `[n]`; all by default.
        """

    def answers(self, batch: TaskBatch, select: Tensor | None = None) -> Tensor:
        """What the members say of each item in the end: logits `[n, B, C]` after its last real step; see `forward`."""
        return last_step(self(batch, select).output, batch.lengths)

    def losses(self, batch: TaskBatch, criterion: Criterion) -> Tensor:
        """Every member's loss in training, `[N]`; a bundle may find the gradients along the way."""
        return criterion(self.answers(batch), batch.targets)

    @abstractmethod
    def read_out(self, hidden: Tensor, select: Tensor | None = None) -> Tensor:
        """What the members' own readouts say of states that may come from elsewhere.

        Args:
            hidden: the last stage of `Trajectory.hidden`, `[n, B, T, H]` or `[n, B, channels, h, w]`.
            select: indices of the members whose readouts answer, `[n]`; all by default.
        """

    @abstractmethod
    def member(self, index: int) -> nn.Module:
        """One member as an ordinary module, with its own copy of the weights."""

    @torch.no_grad()
    def join(self, others: Sequence[Bundle]) -> Self:
        """One bundle that holds the members of this one and of others with the same settings, in order."""
        parts: list[Bundle] = [self, *others]
        joined = self._alike(sum(part.count for part in parts))
        for name, parameter in joined.state_dict(keep_vars=True).items():
            parameter.copy_(torch.cat([part.get_buffer_or_parameter(name).to(parameter) for part in parts]))
        return joined

    @torch.no_grad()
    def take(self, indices: Sequence[int]) -> Self:
        """A bundle of some of the members, in this order."""
        taken = self._alike(len(indices))
        for name, parameter in taken.state_dict(keep_vars=True).items():
            parameter.copy_(self.get_buffer_or_parameter(name)[list(indices)])
        return taken

    @torch.no_grad()
    def averaged(self, shares: Sequence[float] | None = None) -> Self:
        """The one network, frozen, whose weights are the mean of the members' weights.

        Args:
            shares: how much each member counts, N numbers that sum to 1; all the same by default.

        Raises:
            ValueError: the shares are others than that.
        """
        average = self._alike(1)
        for name, parameter in average.state_dict(keep_vars=True).items():
            parameter.copy_(weighted_mean(self.get_buffer_or_parameter(name), shares).unsqueeze(0))
        return average.requires_grad_(False).eval()

    def get_buffer_or_parameter(self, name: str) -> Tensor:
        """A stacked tensor `[N, ...]` by its name in the state dict."""
        stacked: Tensor = self.state_dict(keep_vars=True)[name]
        return stacked

    def _alike(self, count: int) -> Self:
        """Untrained networks of the same settings, on the same device, of the same precision and in the same mode."""
        return self.build(count, self.settings).to(next(self.parameters())).train(self.training)


def last_step(output: Tensor, lengths: Tensor) -> Tensor:
    """What do the networks answer after an item's last real step?

    Args:
        output: `[N, B, T, C]`, or `[N, B, C]` where there is one answer only.
        lengths: `[B]` or `[N, B]`.

    Returns:
        `[N, B, C]`.
    """
    if output.dim() == 3:
        return output
    last = (lengths - 1).expand(output.shape[:2])
    return output.gather(2, last[..., None, None].expand(-1, -1, 1, output.shape[-1])).squeeze(2)


def weighted_mean(stacked: Tensor, shares: Sequence[float] | None = None) -> Tensor:
    """The mean of `[N, ...]` over N in float64, so that the mean of equal numbers is that very number.

    Raises:
        ValueError: the shares are not N numbers that sum to 1, to within 1e-6.
    """
    count = len(stacked)
    weights = torch.tensor([1 / count] * count if shares is None else list(shares), dtype=torch.float64)
    if weights.shape != (count,) or not abs(float(weights.sum()) - 1) <= SUM_TOLERANCE:
        raise ValueError(
            f"shares must be {count} numbers that sum to 1, one for each network, got {len(weights)} that sum to "
            f"{float(weights.sum()):g}"
        )
    mean: Tensor = torch.tensordot(weights, stacked.detach().cpu().double(), dims=1)
    return mean.to(stacked)
