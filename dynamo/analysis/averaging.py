"""Model averaging in the embedding: the mean of theta is itself a working network (abstract of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ALL = "all"


def mean_points(theta: Tensor, groups: Sequence[str]) -> dict[str, Tensor]:
    """At which points does one look for the average of all models, and of each group?

    Args:
        theta: embeddings `[N, D]`.
        groups: one name per model.

    Returns:
        The mean `[D]` over every model under "all", then that of each group in order of first appearance, in
        the type and on the device of `theta`; means are taken in float64.

    Raises:
        ValueError: if names and models differ in number, or a group is called "all".

    Source: the abstract (model averaging); the centroids of Figure 8.
    """
    if theta.ndim != 2 or len(theta) != len(groups) or not len(groups):
        raise ValueError(f"theta {list(theta.shape)} must be [N, D] with one group each, not {len(groups)}")
    if ALL in groups:
        raise ValueError(f'no group can be called "{ALL}": it names the mean over every model')
    values = theta.detach().cpu().double()
    means = {ALL: values.mean(0)}
    for name in dict.fromkeys(groups):
        member = torch.tensor([group == name for group in groups])
        means[name] = values[member].mean(0)
    return {name: mean.to(theta.dtype).to(theta.device) for name, mean in means.items()}
