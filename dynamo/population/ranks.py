"""What do all processes of a run have together? Every rank asks at the same place; a single process asks itself."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed


def processes() -> int:
    """How many processes share this run?"""
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if ready else 1


def mean_over_ranks(losses: Tensor) -> Tensor:
    """What are the losses on the items of all processes, of which each has equally many?

    Args:
        losses: of this process, in any shape that is the same everywhere.

    Returns:
        In the same shape, detached, with the same bits on every rank.
    """
    found = losses.detach().clone()
    if processes() > 1:
        distributed.all_reduce(found)
        found /= processes()
    return found


def nothing_of(parameters: Iterable[Tensor]) -> Tensor:
    """How does a step leave some parameters out? A 0 to add to its loss, with a gradient of 0 for all of them.

    DDP waits for a gradient of every parameter, and optimisers pass by those that have none: with this, a parameter
    of which nothing was drawn fares as one does of which something else was drawn, for any number of processes.
    """
    return 0.0 * torch.stack([parameter.sum() for parameter in parameters]).sum()


def rows_of_ranks(row: Tensor) -> Tensor:
    """What did every process count?

    Args:
        row: of this process, `[K]`, K the same everywhere, on the device that the processes share things by.

    Returns:
        `[R, K]`, rank by rank, on the CPU. Lightning's `all_gather` is made to be differentiated, and warns of it.
    """
    rows = [torch.empty_like(row) for _ in range(processes())]
    if len(rows) > 1:
        distributed.all_gather(rows, row.detach().contiguous())
    else:
        rows = [row.detach()]
    return torch.stack(rows).cpu()
