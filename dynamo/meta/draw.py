"""Which members take part in a step, where not all of them do?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def drawn_members(counts: Sequence[int], members_per_step: int, seed: int, step: int) -> list[Tensor]:
    """The members of a step: a function of the seed and the number of batches done before it.

    Args:
        counts: members of every bundle.
        members_per_step: how many are drawn, over all bundles.
        seed: of the draws.
        step: batches done so far.

    Returns:
        Per bundle the ascending indices of its members that take part, int64.
    """
    drawn = np.sort(np.random.default_rng([seed, step]).permutation(sum(counts))[:members_per_step])
    first, parts = 0, []
    for count in counts:
        mine = drawn[(drawn >= first) & (drawn < first + count)] - first
        parts.append(torch.from_numpy(mine))
        first += count
    return parts
