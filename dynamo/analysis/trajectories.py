"""Do networks grow alike as they train? The spread of the map across seeds, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class SpreadOverTime(NamedTuple):
    """How far apart the networks of each epoch lie.

    Attributes:
        epochs: in ascending order, `[epochs]`.
        spread: mean distance between two networks of that epoch `[epochs]`, float64.
        early: mean spread over the first quarter of the epochs.
        late: mean spread over the last quarter.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import spread_over_time
        >>> found = spread_over_time(torch.tensor([[0.0], [3.0], [0.0], [1.0]]), epochs=[1, 1, 8, 8])
        >>> found.epochs, found.early, found.late  # they converge
        ((1, 8), 3.0, 1.0)
    """

    epochs: tuple[int, ...]
    spread: Tensor
    early: float
    late: float


def spread_over_time(points: Tensor, epochs: Sequence[int]) -> SpreadOverTime:
    """Do networks that differ in their seed lie closer together, or farther apart, the longer they train?

    Args:
        points: theta of every snapshot `[N, D]`.
        epochs: the epoch of every snapshot, N of them.

    Raises:
        ValueError: points and epochs differ in number, or an epoch has a single network.

    Source: Figure 3(2) of the paper.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import spread_over_time
        >>> theta = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 1.0]])
        >>> spread_over_time(theta, epochs=[2, 2, 1, 1]).spread
        tensor([1., 5.], dtype=torch.float64)
    """
    if len(points) != len(epochs):
        raise ValueError(f"{len(points)} points and {len(epochs)} epochs; one epoch per point is needed.")
    found = []
    order = sorted(set(epochs))
    for epoch in order:
        here = points[[index for index, other in enumerate(epochs) if other == epoch]].detach().cpu().double()
        if len(here) < 2:
            raise ValueError(f"Epoch {epoch} has {len(here)} network; a spread needs at least 2 at every epoch.")
        found.append(torch.pdist(here).mean())
    spread = torch.stack(found)
    quarter = max(1, len(order) // 4)
    return SpreadOverTime(tuple(order), spread, float(spread[:quarter].mean()), float(spread[-quarter:].mean()))
