"""What is held of a task: its splits as tensors that stay on a device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from dynamo.types import TaskBatch

SPLITS = ("train", "val", "test")


class Resident(Protocol):
    """One split of one task as tensors that stay on a device.

    Examples:
        >>> import torch
        >>> from datamodules import SyntheticSentimentDataModule
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> data.setup()
        >>> split = data.data["synthetic"].val
        >>> items = split.gather(torch.tensor([0, 1]), longest=int(split.lengths[:2].max()), rngs=None)
        >>> bool((items.lengths == split.lengths[:2]).all()), bool((items.targets == split.labels[:2]).all())
        (True, True)
    """

    @property
    def lengths(self) -> Tensor:
        """Steps of every item as it will be read, int64 `[items]`; 1 for images."""
        ...

    @property
    def labels(self) -> Tensor:
        """Class of every item, int64 `[items]`."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same split on `device`."""
        ...

    def gather(self, indices: Tensor, longest: int, rngs: Iterable[np.random.Generator] | None) -> TaskBatch:
        """The items at `indices` (`[B]` or `[N, B]`), `longest` steps wide.

        `rngs` are given in training only, one per member: crops draw from them, evaluation draws nothing.
        """
        ...


@dataclass(frozen=True)
class TaskData:
    """One task, ready to be read: its three splits and a hash of what the source holds.

    Examples:
        >>> from datamodules import DigitsDataModule
        >>> data = DigitsDataModule(val_fraction=0.1)
        >>> data.setup()
        >>> digits = data.data["digits"]
        >>> [len(digits.split(name).labels) for name in ("train", "val", "test")]
        [1211, 136, 450]
    """

    train: Resident
    val: Resident
    test: Resident
    digest: str

    def split(self, name: str) -> Resident:
        """The split called `name`."""
        if name not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {name!r}.")
        found: Resident = getattr(self, name)
        return found


def tensors_digest(*parts: Tensor) -> str:
    """The sha256 of some tensors: of their types, shapes and values."""
    found = hashlib.sha256()
    for part in parts:
        found.update(f"{part.dtype} {tuple(part.shape)}".encode())
        found.update(part.contiguous().numpy().data)
    return found.hexdigest()
