"""theta: where on the map each base model lies."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ModelEmbedding(nn.Module):
    """Where does each base model lie? One learned point theta `[D]` per member.

    All points start at 0, so that every difference in the finished embedding was learned and none is left
    over from the initialisation. Not given in the paper, except that its Figure 7 starts at 0.

    Args:
        count: N, how many members.
        dimensions: D.

    Examples:
        >>> from dynamo.meta import ModelEmbedding
        >>> ModelEmbedding(count=2, dimensions=3)()
        Parameter containing:
        tensor([[0., 0., 0.],
                [0., 0., 0.]], requires_grad=True)
    """

    def __init__(self, count: int, dimensions: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(count, dimensions))

    def forward(self, members: Tensor | None = None) -> Tensor:
        """The points of the chosen members `[n, D]`, or of all `[N, D]`."""
        return self.theta if members is None else self.theta[members]
