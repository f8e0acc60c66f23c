"""V_n: how a state of the meta-model reads as a state of base model n (Figure 2 of the paper)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dynamo.population.artifact import Population

AlignmentKind = Literal["affine", "identity", "mlp"]


class Alignment(nn.Module, ABC):
    """How do states of the meta-model read as states of base models? One map per member and stage.

    It is shared over time, and in a feature map over positions, where an affine V_n is a 1x1 convolution. It absorbs
    the arbitrary basis of a member's hidden units, which is why the embedding is "less sensitive to reparameterization"
    (abstract of the paper). The form of V_n is not given in the paper.

    Examples:
        >>> import torch
        >>> from dynamo.meta import AffineAlignment
        >>> states = torch.randn(3, 2, 5, 8)  # [N, B, T, S]
        >>> V = AffineAlignment(count=3, size=8, target_size=4)
        >>> V.stage(states).shape, V.stage(states[:1], members=torch.tensor([2])).shape
        (torch.Size([3, 2, 5, 4]), torch.Size([1, 2, 5, 4]))
    """

    @abstractmethod
    def forward(self, states: Tensor, members: Tensor | None = None) -> Tensor:
        """Meta states `[n, ..., S]` of the chosen members (all by default) -> base states `[n, ..., H]`."""

    def stage(self, states: Tensor, members: Tensor | None = None) -> Tensor:
        """As `forward`, for a stage of `Trajectory.hidden`: `[n, B, T, S]`, or maps `[n, B, S, h, w]`."""
        if states.dim() == 4:  # a recurrence lays states out as [n, T, B, S]
            return self(states.transpose(1, 2), members).transpose(1, 2)  # type: ignore[no-any-return]
        return self(states.movedim(2, -1), members).movedim(-1, 2)  # type: ignore[no-any-return]

    @torch.no_grad()
    def start_at(self, mean: Tensor, members: Tensor) -> None:
        """Begin at the mean state `[n, H]` of these members, the best constant answer, where V_n has a bias."""


class AffineAlignment(Alignment):
    """V_n(s) = s W_n + b_n.

    Args:
        count: N.
        size: S.
        target_size: H.

    Examples:
        >>> import torch
        >>> from dynamo.meta import AffineAlignment
        >>> V = AffineAlignment(count=2, size=3, target_size=3).requires_grad_(False)
        >>> V.weight[:], V.bias[:] = torch.eye(3)[[2, 0, 1]], 1.0  # turns the units round, and adds 1
        >>> V(torch.tensor([[[0.0, 10.0, 20.0]]]), members=torch.tensor([1]))
        tensor([[[11., 21.,  1.]]])
    """

    def __init__(self, count: int, size: int, target_size: int) -> None:
        super().__init__()
        bound = size**-0.5
        self.weight = nn.Parameter(torch.empty(count, size, target_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(count, target_size))

    def forward(self, states: Tensor, members: Tensor | None = None) -> Tensor:
        """See `Alignment.forward`."""
        weight, bias = (p if members is None else p[members] for p in (self.weight, self.bias))
        flat = states.flatten(1, -2)
        mapped: Tensor = torch.baddbmm(bias.unsqueeze(1), flat, weight).unflatten(1, states.shape[1:-1])
        return mapped

    @torch.no_grad()
    def start_at(self, mean: Tensor, members: Tensor) -> None:
        """See `Alignment.start_at`."""
        self.bias[members] = mean


class IdentityAlignment(Alignment):
    """V_n(s) = s: the meta-model has to use the very basis of the members; needs S = H.

    Args:
        count: N.
        size: S.
        target_size: H.

    Raises:
        ValueError: S and H differ.

    Examples:
        >>> import torch
        >>> from dynamo.meta import IdentityAlignment
        >>> states = torch.randn(2, 5, 3)
        >>> IdentityAlignment(count=2, size=3, target_size=3)(states) is states
        True
        >>> IdentityAlignment(count=2, size=3, target_size=4)
        Traceback (most recent call last):
        ValueError: alignment 'identity' needs as many meta states as base states, but S = 3 and H = 4; ...
    """

    def __init__(self, count: int, size: int, target_size: int) -> None:
        super().__init__()
        if size != target_size:
            raise ValueError(
                f"alignment 'identity' needs as many meta states as base states, but S = {size} and "
                f"H = {target_size}; set hidden_size to {target_size} or choose alignment 'affine'."
            )

    def forward(self, states: Tensor, members: Tensor | None = None) -> Tensor:
        """See `Alignment.forward`."""
        return states


class MLPAlignment(Alignment):
    """V_n(s) = tanh(s A_n + a_n) W_n + b_n, with as many hidden units as base states.

    Args:
        count: N.
        size: S.
        target_size: H.

    Examples:
        >>> import torch
        >>> from dynamo.meta import MLPAlignment
        >>> V = MLPAlignment(count=2, size=8, target_size=3)
        >>> V.start_at(torch.tensor([[1.0, 2.0, 3.0]]), members=torch.tensor([1]))
        >>> V.outer.bias[1].tolist()  # where member 1 starts: at the mean of its states
        [1.0, 2.0, 3.0]
    """

    def __init__(self, count: int, size: int, target_size: int) -> None:
        super().__init__()
        self.inner = AffineAlignment(count, size, target_size)
        self.outer = AffineAlignment(count, target_size, target_size)

    def forward(self, states: Tensor, members: Tensor | None = None) -> Tensor:
        """See `Alignment.forward`."""
        mapped: Tensor = self.outer(torch.tanh(self.inner(states, members)), members)
        return mapped

    @torch.no_grad()
    def start_at(self, mean: Tensor, members: Tensor) -> None:
        """See `Alignment.start_at`."""
        self.outer.start_at(mean, members)


ALIGNMENTS: dict[str, type[AffineAlignment] | type[IdentityAlignment] | type[MLPAlignment]] = {
    "affine": AffineAlignment,
    "identity": IdentityAlignment,
    "mlp": MLPAlignment,
}


def alignments_of(kind: AlignmentKind, population: Population, sizes: Sequence[int]) -> nn.ModuleList:
    """V_n of a whole population, fresh: `[bundle][stage]`.

    Args:
        kind: affine, identity or mlp.
        population: the members.
        sizes: units of every stage of the meta-model.

    Raises:
        ValueError: the identity, where the units differ in number.
    """
    return nn.ModuleList(
        nn.ModuleList(ALIGNMENTS[kind](bundle.count, *pair) for pair in zip(sizes, bundle.hidden_sizes, strict=True))
        for bundle in population.bundles
    )
