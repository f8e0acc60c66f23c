"""What lies side by side when emulators are held against their originals."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dynamo.types import TaskBatch, Trajectory


class Comparison(NamedTuple):
    """Some members of one bundle beside their emulators, on one batch.

    Attributes:
        bundle: index of the bundle.
        members: indices of the members inside the bundle, `[n]`.
        original: what the base models did.
        mapped: V_n(s) of every stage, in the shapes of `original.hidden`.
        emulated: logits of the emulators, in the shape of `original.output`; with lambda = 0, in evaluation, what
            the members' own readouts say of `mapped`.
        batch: the items.
    """

    bundle: int
    members: Tensor
    original: Trajectory
    mapped: tuple[Tensor, ...]
    emulated: Tensor
    batch: TaskBatch
