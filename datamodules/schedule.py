"""Which items stand in batch k? Pure functions of (seed, k, rank, world): no state to save, none to restore.

Every reader has an endless stream of its own items: permutation after permutation of its subset. A *window*
cuts `window * B * world` items off the stream of every reader, sorts them by length and cuts them into
batches; the order in which these sorted batches are visited is drawn once per window and is the same for all
readers and ranks, so that whatever is read at one step has about one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dynamo.types import OptionError, Reader

IntArray = npt.NDArray[np.int64]

# First word of every seed; numpy pads seeds with zeros, so that [7, 1] and [7, 1, 0] give the same stream.
_ITEMS, _VISITS, _SUBSET = 1, 2, 3
_EVALUATION = 13  # a subset's seed


class IndexBatch(NamedTuple):
    """What a loader yields in place of data: where the items of a batch stand in their split.

    Attributes:
        indices: int64, `[B]` or `[N, B]`.
        longest: steps of the longest item, known on the host, so that trimming waits for no device.
        split: "train", "val" or "test".
        step: number of the batch in the run, which randomness in training is keyed by; -1 in evaluation.
    """

    indices: Tensor
    longest: int
    split: str = "train"
    step: int = -1


def subset_indices(labels: npt.ArrayLike, fraction: float, subset_seed: int, option: str = "fraction") -> IntArray:
    """Which items make up a fraction of a split? Ascending positions in it.

    Every class is permuted once by `subset_seed` and gives its first `fraction`: smaller subsets lie inside
    larger ones, and all have the class proportions of the whole. `option` is what errors call the fraction.

    Raises:
        OptionError: for a fraction outside (0, 1], or one that leaves a class without any item.
    """
    if not 0 < fraction <= 1:
        raise OptionError(f"{option} must lie in (0, 1], got {fraction}: 0.25 reads a quarter of the items.")
    values = np.asarray(labels)
    chosen = []
    for label in np.unique(values):
        members = np.flatnonzero(values == label)
        count = round(fraction * len(members))
        if count == 0:
            whose = f" of class {int(label)}" if label >= 0 else ""  # -1 where there is no class
            raise OptionError(
                f"{option} {fraction} of the {len(members)} items{whose} leaves none: "
                f"take at least {1 / len(members):.2g}."
            )
        rng = np.random.default_rng([_SUBSET, subset_seed, int(label) % 2**32])  # -1 where there is no class
        chosen.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def balanced_draw(labels: Tensor, limit: int | None) -> IntArray | None:
    """A fixed class-balanced draw of `limit` positions; None for all.

    Raises:
        OptionError: there are more classes than that.
    """
    if limit is None or limit >= len(labels):
        return None
    if limit < (classes := len(labels.unique())):
        raise OptionError(f"{limit} items cannot show all {classes} classes: ask for {classes} or more.")
    return subset_indices(labels.numpy(), limit / len(labels), _EVALUATION)


def check_val_fraction(fraction: float, option: str = "val_fraction") -> None:
    """Refuse a share to be held back that leaves one side without items."""
    if not 0 < fraction < 1:
        raise ValueError(f"{option} must lie in (0, 1), got {fraction}: 0.1 holds a tenth back.")


def hold_out(
    labels: npt.ArrayLike, fraction: float, split_seed: int, noun: str, option: str = "val_fraction"
) -> tuple[Tensor, Tensor]:
    """Which items are trained on, and which class-balanced part is held back? `split_seed` decides.

    `option` is what errors call the fraction.

    Returns:
        Ascending positions of both, int64.

    Raises:
        OptionError: one side is left without a `noun`.
    """
    held = subset_indices(labels, fraction, split_seed, option)
    rest = np.setdiff1d(np.arange(len(np.asarray(labels))), held)
    if len(rest) == 0:
        raise OptionError(f"{option} {fraction} leaves no {noun} to train on: take less.")
    return torch.from_numpy(rest), torch.from_numpy(held)


class _Stream:
    """The endless sequence of one reader's items; position j is a pure function of (seed, reader, j)."""

    def __init__(self, items: IntArray, seed: int, reader_seed: int) -> None:
        self.items = items
        self._seed = (seed, reader_seed)
        self._permutations: dict[int, IntArray] = {}

    def permutation(self, epoch: int) -> IntArray:
        """The items in the order of the reader's `epoch`-th pass over them."""
        if epoch not in self._permutations:
            rng = np.random.default_rng([_ITEMS, *self._seed, epoch])
            recent = {past: order for past, order in self._permutations.items() if past == epoch - 1}
            self._permutations = {**recent, epoch: rng.permutation(self.items)}
        return self._permutations[epoch]

    def read(self, start: int, count: int) -> IntArray:
        """Items `start` to `start + count` of the stream."""
        size, parts = len(self.items), []
        while count > 0:
            epoch, offset = divmod(start, size)
            parts.append(self.permutation(epoch)[offset : offset + count])
            start, count = start + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts)


class TrainSchedule:
    """Batch k of one task for all its readers: a pure function of (seed, k, rank, world) and the readers.

    For a given `batch_size * world` the items of step k are the same for every `world`; the ranks hold
    neighbouring slices of them, so that they have equal counts and similar lengths.
    """

    def __init__(
        self,
        lengths: npt.ArrayLike,
        labels: npt.ArrayLike,
        readers: Sequence[Reader],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        window: int = 50,
        company: Sequence[Reader] | None = None,
    ) -> None:
        """Args name one split and who reads it.

        Args:
            lengths: steps of every item, as they will be read.
            labels: class of every item.
            readers: who reads; the `N` of the batches, in this order.
            batch_size: items per reader, step and rank.
            seed: decides all orders, together with the readers' own seeds.
            rank: whose batches these are.
            world: how many ranks share every step.
            window: batches per length bucket. It never holds more than half of the smallest reader's items,
                so that sorting does not bring two copies of one item into one batch again and again.
            company: all readers of the population whose part `readers` are: window and `longest` are those of the
                whole. By default they are the whole.
        """
        if not readers:
            raise ValueError("a schedule needs at least one reader.")
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self._lengths = np.asarray(lengths)
        subsets: dict[tuple[float, int], IntArray] = {}
        streams: dict[tuple[float, int, int], _Stream] = {}
        for reader in [*readers, *(company or ())]:
            key = (reader.fraction, reader.subset_seed)
            if key not in subsets:
                subsets[key] = subset_indices(labels, *key)
            streams.setdefault((*key, reader.seed), _Stream(subsets[key], seed, reader.seed))
        self._streams = [streams[reader.fraction, reader.subset_seed, reader.seed] for reader in readers]
        self._others = [stream for stream in streams.values() if stream not in self._streams]
        smallest = min(len(items) for items in subsets.values())
        self.window = max(1, min(window, smallest // (2 * batch_size * world)))
        self._current: tuple[int, Tensor, list[int]] | None = None

    def batch(self, k: int) -> IndexBatch:
        """Batch `k` of the run, indices `[N, B]`."""
        number, place = divmod(k, self.window)
        if self._current is None or self._current[0] != number:
            self._current = (number, *self._draw(number))
        _, indices, longest = self._current
        return IndexBatch(indices[place], longest[place], "train", k)

    def _draw(self, number: int) -> tuple[Tensor, list[int]]:
        """All batches of one window, as visited: indices `[window, N, B]` and the longest item of each."""
        size = self.window * self.batch_size * self.world
        visits = np.random.default_rng([_VISITS, self.seed, number]).permutation(self.window)
        drawn = np.empty((self.window, len(self._streams), self.batch_size), dtype=np.int64)
        for n, stream in enumerate(self._streams):
            items = stream.read(number * size, size)
            items = items[np.argsort(self._lengths[items], kind="stable")]
            drawn[:, n] = items.reshape(self.window, self.world, self.batch_size)[visits, self.rank]
        longest = self._lengths[drawn].max(axis=(1, 2))
        for stream in self._others:  # which are read elsewhere, at the same width
            lengths = np.sort(self._lengths[stream.read(number * size, size)])
            last = lengths.reshape(self.window, self.world, self.batch_size)[visits, self.rank, -1]
            longest = np.maximum(longest, last)
        return torch.from_numpy(drawn), [int(steps) for steps in longest]


class EvalSchedule:
    """Every item once over all ranks: sorted by length, cut into batches, the batches dealt out in turn.

    Nothing is padded and nothing repeated, so sums weighted by count are the same for 1, 2 or 4 processes.
    Batches shrink where that is needed to give every rank one (Lightning skips the hooks of a rank that has
    none, and the other ranks would wait for it for ever).
    """

    def __init__(
        self,
        lengths: npt.ArrayLike,
        batch_size: int,
        split: str,
        rank: int = 0,
        world: int = 1,
        chosen: npt.NDArray[np.int64] | None = None,
    ) -> None:
        values = np.asarray(lengths)
        items = np.arange(len(values)) if chosen is None else np.sort(chosen)
        if len(items) < world:
            raise OptionError(f"split {split!r} has {len(items)} items for {world} processes: use fewer.")
        size = min(batch_size, len(items) // world)
        order = items[np.argsort(values[items], kind="stable")].astype(np.int64)
        mine = [order[first : first + size] for first in range(rank * size, len(order), world * size)]
        self._batches = [IndexBatch(torch.from_numpy(items), int(values[items].max()), split) for items in mine]

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self._batches)

    def batch(self, k: int) -> IndexBatch:
        """Batch `k` of this rank, indices `[B]`."""
        return self._batches[k]
