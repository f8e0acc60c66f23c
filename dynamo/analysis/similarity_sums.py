"""Similarity of representations over any number of samples: sums over batches and processes, and error bars."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynamo.analysis.bootstrap import Bootstrap
from dynamo.analysis.similarity_measures import (
    Kind,
    Moments,
    check_options,
    check_states,
    matrix_of,
    moved,
    panels,
    precision_of,
    products,
)

_ROWS = 1024
"""Samples that are taken in at once: few enough to bound the float64 copy, many enough for a fast product."""


class SimilaritySums:
    """Everything that the distances are made of; nothing in it grows with the samples.

    One matrix of products of all models' features with each other, and with the squared norms of the states (for
    CKA), in float64 about the mean. Batches, and processes with shards of any size (none included), combine by
    Chan's parallel update, so a large offset of the states costs no digits. To combine processes, gather the rows
    of `as_tensor()` and hand them to `from_tensor`; they do not add up by a plain sum:

        total = SimilaritySums.from_tensor(self.all_gather(sums.as_tensor().to(self.device)))

    Sums lose digits of svcca and pwcca where the weakest direction that is kept holds little: the error is about
    2e-16 divided by its share of the variance, so 1e-12 where it holds 1e-4, and 1e-7 was seen with `variance=1.0` on
    spectra that fall steeply. `similarity.pairwise`, which has the states, loses the square root of that only.

    It lives on the device of the first states, on the CPU where that has no float64. Memory is `blocks` times
    the square of the sum of features. If only certain pairs matter, one of these per pair is the cheaper way.

    Args:
        features: H of every model.
        blocks: into how many parts `update` sorts the samples, for `bootstrap`. An input (a review) belongs to
            one block with all its steps, since they are not independent.

    Raises:
        ValueError: if there is no model, a model without features, or no block.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import SimilaritySums, pairwise
        >>> states = [torch.randn(300, 4), torch.randn(300, 6)]
        >>> sums = SimilaritySums([4, 6])
        >>> for batch in range(3):
        ...     sums.update([x[100 * batch : 100 * (batch + 1)] for x in states])
        >>> bool(torch.allclose(sums.distances(), pairwise(states)))
        True
    """

    def __init__(self, features: Sequence[int], blocks: int = 1) -> None:
        if not features or min(features) < 1 or blocks < 1:
            raise ValueError(f"needs models with at least 1 feature and 1 block, got {list(features)} and {blocks}")
        self.features, self.blocks = tuple(features), blocks
        self._widths = (*self.features, len(self.features))
        width = sum(self._widths)
        self._counts = torch.zeros(blocks, dtype=torch.float64)
        self._precision = torch.zeros(len(self.features), dtype=torch.float64)  # of the coarsest states so far
        self._shift = torch.zeros(sum(features), dtype=torch.float64)
        self._mean = torch.zeros(blocks, width, dtype=torch.float64)  # relative to the shift
        self._scatter = torch.zeros(blocks, width, width, dtype=torch.float64)  # filled as in Moments

    def update(self, states: Sequence[Tensor], block: int = 0) -> None:
        """Adds samples.

        Args:
            states: one `[samples, H_n]` per model, of the same inputs and steps in the same order.
            block: which part of the inputs they belong to.

        Raises:
            ValueError: if the states do not fit, or hold NaN or infinity.
        """
        check_states(states, self.features)
        if not 0 <= block < self.blocks:
            raise ValueError(f"block {block} is not one of the {self.blocks} blocks, counted from 0")
        samples = len(states[0])
        if not samples:
            return
        if not self._counts.any():
            device = states[0].device if states[0].device.type != "mps" else torch.device("cpu")
            self._move(device)
            self._shift = torch.cat([x[:_ROWS].detach().to(device).double().mean(0) for x in states])
        self._precision = torch.maximum(self._precision, self._precision.new_tensor([*map(precision_of, states)]))
        for start in range(0, samples, _ROWS):
            self._add([x[start : start + _ROWS] for x in states], block)

    def merge(self, other: SimilaritySums) -> None:
        """Takes in what another one counted, as if its samples had come here.

        Raises:
            ValueError: if the other one is about other features or another number of blocks.
        """
        if (self.features, self.blocks) != (other.features, other.blocks):
            raise ValueError(f"{other.features, other.blocks} cannot be merged into {self.features, self.blocks}")
        if not other._counts.any():
            return
        if not self._counts.any():
            self._move(other._shift.device)
            self._shift = other._shift.clone()
        self._precision = torch.maximum(self._precision, other._precision.to(self._precision))
        columns, device = sum(self.features), self._shift.device
        shift = other._shift.to(device) - self._shift
        for block in range(self.blocks):
            mean, scatter = other._mean[block].to(device), other._scatter[block].to(device)
            if shift.any():
                norms = (2 * mean[:columns] + shift) * shift
                added = torch.stack([part.sum() for part in norms.split(self.features)])
                mean = mean + torch.cat([shift, added])
                scatter = torch.cat([scatter[:, :columns], moved(scatter, self.features, shift)], 1)
            row = self._join(block, float(other._counts[block]), mean)
            self._scatter[block] += scatter
            products(self._scatter[block], row.unsqueeze(0), self._widths)

    def as_tensor(self) -> Tensor:
        """All of it as one flat float64 tensor `[K]`, equally long on every process, its layout in front."""
        header = torch.tensor([len(self.features), self.blocks, *self.features], dtype=torch.float64)
        parts = (self._precision, self._counts, self._shift, self._mean, self._scatter[:, self._filled()])
        return torch.cat([header.to(self._shift.device), *(part.flatten() for part in parts)])

    @classmethod
    def from_tensor(cls, rows: Tensor) -> SimilaritySums:
        """Makes one of one or many `as_tensor()`, merging in the order of the rows.

        Args:
            rows: `[K]`, or gathered from R processes `[R, K]`, float64.

        Raises:
            ValueError: if `rows` is not what `as_tensor` makes.
        """
        if rows.dtype != torch.float64 or rows.ndim not in (1, 2) or not rows.numel():
            raise ValueError(f"expected float64 [K] or [R, K], got {rows.dtype} {list(rows.shape)}")
        total: SimilaritySums | None = None
        for row in rows.detach().reshape(-1, rows.shape[-1]):
            models, blocks = int(row[0]), int(row[1])
            one = cls([int(width) for width in row[2 : 2 + models]], blocks)
            one._move(row.device)
            filled = one._filled()
            own = (one._precision, one._counts, one._shift, one._mean)
            sizes = [*(part.numel() for part in own), blocks * int(filled.sum())]
            if 2 + models + sum(sizes) != len(row):
                raise ValueError(f"a row of {len(row)} numbers does not fit the layout in its own header")
            *parts, scatter = row[2 + models :].split(sizes)
            for into, part in zip(own, parts, strict=True):
                into.copy_(part.view_as(into))
            one._scatter[:, filled] = scatter.view(blocks, -1)
            if total is None:
                total = one
            else:
                total.merge(one)
        assert total is not None
        return total

    def distances(self, kind: Kind = "svcca", variance: float = 0.99) -> Tensor:
        """How far apart are all models? `[N, N]`, float64 on the CPU, symmetric, 0 on the diagonal.

        Args:
            kind: see `dynamo.analysis.similarity.pairwise`.
            variance: share of the variance that svcca and pwcca keep.

        Raises:
            ValueError: as `pairwise`.
        """
        check_options(kind, variance)
        return matrix_of(self.moments(torch.ones(self.blocks)), kind, variance)

    def bootstrap(
        self, kind: Kind = "svcca", variance: float = 0.99, replicates: int = 200, seed: int = 0
    ) -> Bootstrap:
        """How much would the distances change, had other inputs been drawn? See `replicates` and `Bootstrap.around`."""
        distances = self.distances(kind, variance)
        return Bootstrap.around(distances, self.replicates(kind, variance, replicates, seed))

    def replicates(self, kind: Kind = "svcca", variance: float = 0.99, count: int = 200, seed: int = 0) -> Tensor:
        """Which distances would other inputs have given? `[count, N, N]`, float64 on the CPU.

        Each replicate draws as many blocks as there are, with replacement; sums of other states of the same inputs,
        sorted into the same blocks, draw the same ones.

        Args:
            kind: as in `distances`.
            variance: as in `distances`.
            count: number of draws, at least 2.
            seed: decides the draws.

        Raises:
            ValueError: as `distances`, of the samples in one replicate; or if they lie in fewer than two blocks.
        """
        used = self._counts.nonzero().flatten().cpu()
        if len(used) < 2 or count < 2:
            raise ValueError(
                f"a bootstrap needs at least 2 replicates of at least 2 blocks with samples, got {count} of "
                f"{len(used)}: give blocks= to SimilaritySums and a block to update()"
            )
        generator = torch.Generator().manual_seed(seed)
        drawn = []
        for _ in range(count):
            chosen = used[torch.randint(len(used), (len(used),), generator=generator)]
            weights = chosen.bincount(minlength=self.blocks).double()
            try:
                drawn.append(matrix_of(self.moments(weights), kind, variance))
            except ValueError as error:
                raise ValueError(
                    f"a replicate of the bootstrap held only {int((weights > 0).sum())} of the {len(used)} blocks with "
                    f"samples, and in these {error}. Sort the inputs into more blocks, or read more of them"
                ) from error
        return torch.stack(drawn)

    def moments(self, weights: Tensor) -> Moments:
        """Moments of the samples of all blocks together, each counted this often `[blocks]`, on the CPU.

        Raises:
            ValueError: if there are fewer than two samples.
        """
        weights = weights.to(self._counts)
        counts = weights * self._counts
        distinct = float(self._counts[weights > 0].sum())
        if distinct < 2:
            raise ValueError(f"distances between models need at least 2 samples, got {distinct:.0f}")
        mean = counts @ self._mean / counts.sum()
        scatter = (weights @ self._scatter.flatten(1)).view_as(self._scatter[0])
        if self.blocks > 1:
            apart = self._mean - mean
            scatter += (apart.T * counts) @ apart
        centre = self._shift + mean[: len(self._shift)]
        precision = tuple(self._precision.tolist())
        return Moments(
            self.features, float(counts.sum()), distinct, centre.cpu(), mean.cpu(), scatter.cpu(), precision=precision
        )

    def _add(self, states: list[Tensor], block: int) -> None:
        """Adds a few samples `[rows, H_n]` to one block."""
        rows, columns = len(states[0]), sum(self.features)
        joined = self._shift.new_empty(rows + 1, self._mean.shape[1])
        for x, own in zip(states, joined[:rows, :columns].split(self.features, 1), strict=True):
            own.copy_(x.detach())
        joined[:rows, :columns] -= self._shift
        for n, own in enumerate(joined[:rows, :columns].split(self.features, 1)):
            torch.linalg.vecdot(own, own, out=joined[:rows, columns + n])
        mean = joined[:rows].mean(0)
        joined[:rows] -= mean
        joined[rows] = self._join(block, rows, mean)
        products(self._scatter[block], joined, self._widths)

    def _join(self, block: int, count: float, mean: Tensor) -> Tensor:
        """Chan's update of count and mean; returns the row that has to join the samples about their own means."""
        before = float(self._counts[block])
        total = before + count
        if not count:
            return torch.zeros_like(mean)
        apart = mean - self._mean[block]
        self._counts[block] = total
        self._mean[block] += apart * (count / total)
        row: Tensor = apart * (before * count / total) ** 0.5
        return row

    def _filled(self) -> Tensor:
        """Which products are kept, bool `[F + N, F + N]`."""
        filled = torch.zeros_like(self._scatter[0], dtype=torch.bool)
        for start, stop in panels(self._widths):
            filled[start:stop, start:] = True
        return filled

    def _move(self, device: torch.device) -> None:
        self._precision, self._counts = self._precision.to(device), self._counts.to(device)
        self._shift = self._shift.to(device)
        self._mean, self._scatter = self._mean.to(device), self._scatter.to(device)
