"""Distances between the representations of two networks, from the moments of their states alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Kind = Literal["svcca", "pwcca", "cka", "procrustes"]

_ROUNDING = 1e-12
"""Shares of variance, and spreads relative to the states' size, below this are rounding."""

_PANEL = 192
"""Columns that are multiplied with the others at once, at least: narrower products are slower."""


class Moments(NamedTuple):
    """What do all measures need to know about the states of N models? Float64, about the states' own mean.

    F is the sum of the models' feature counts. Behind the features stand N more columns: for every sample, the
    squared norm of each model's state about some fixed point.

    Attributes:
        sizes: number of features of every model.
        samples: how many samples were summed, counted as often as they were drawn.
        distinct: how many were summed, each counted once however often it was drawn; samples with equal states
            count as different ones.
        centre: the mean state of every model, one behind the other `[F]`.
        mean: of the columns, relative to the fixed point `[F + N]`.
        scatter: sums of products about the mean `[F + N, F + N]`. Only the blocks on and above the diagonal are
            filled.
        first: index of the first of these models, for messages.
        precision: smallest relative step of the states of every model, as they came; nothing where they are not the
            states as they came.
        loadings: products of every model's features as they came `[H_n, K_n]` with the columns that stand here in
            their place; nothing where the features themselves stand here.
    """

    sizes: tuple[int, ...]
    samples: float
    distinct: float
    centre: Tensor
    mean: Tensor
    scatter: Tensor
    first: int = 0
    precision: tuple[float, ...] = ()
    loadings: tuple[Tensor, ...] = ()

    def block(self, i: int, j: int) -> Tensor:
        """Sums of products of model i's features with model j's `[H_i, H_j]`, i <= j."""
        return self.scatter[self._columns(i), self._columns(j)]

    def total(self, n: int) -> float:
        """Summed squared distance of model n's states from their mean.

        Raises:
            ValueError: if all that varies in them is rounding, of float64 or of the type that they came in: no feature
                spreads by more than two of its smallest steps.
        """
        squares = self.block(n, n).diagonal()
        step = max(_ROUNDING, 2 * self.precision[n]) if self.precision else _ROUNDING
        if (squares <= self.samples * self.centre[self._columns(n)].square() * step**2).all():
            raise ValueError(
                f"the states of model {self.first + n} are constant: they have no directions to compare, leave it out"
            )
        return float(self.block(n, n).trace())

    def _columns(self, n: int) -> slice:
        start = sum(self.sizes[:n])
        return slice(start, start + self.sizes[n])


class Directions(NamedTuple):
    """Along which K directions does a model's state vary?

    Attributes:
        whiten: maps centred states to K orthonormal columns `[H, K]`.
        loading: products of the features as they came with these columns `[H, K]`.
    """

    whiten: Tensor
    loading: Tensor


def check_options(kind: str, variance: float) -> None:
    """Raises ValueError where there is no such measure or share."""
    if kind not in get_args(Kind):
        raise ValueError(f"there is no measure {kind!r}; choose one of {', '.join(get_args(Kind))}")
    if not 0 < variance <= 1:
        raise ValueError(f"variance must lie in (0, 1], got {variance}")


def check_states(states: Sequence[Tensor], features: Sequence[int]) -> None:
    """Raises ValueError unless these are equally many finite samples `[samples, H_n]` of every model."""
    shapes = [list(x.shape) for x in states]
    samples = shapes[0][0] if shapes and shapes[0] else 0
    if shapes != [[samples, width] for width in features]:
        raise ValueError(f"states must be [samples, H] with H = {list(features)}, equally many, got {shapes}")
    bad = [n for n, x in enumerate(states) if not _finite(x)]
    if bad:
        raise ValueError(f"the states of models {bad} hold NaN or infinity")


def precision_of(states: Tensor) -> float:
    """The smallest relative step of these numbers: 1.2e-7 in float32; 0 for whole numbers."""
    return torch.finfo(states.dtype).eps if states.is_floating_point() else 0.0


def directions(moments: Moments, n: int, variance: float) -> Directions:
    """Which are the fewest directions that hold this share of the variance of model n?

    Directions that together hold less than 1e-12 of the variance are always rounding: rank-deficient, duplicated
    and constant features do no harm.

    Raises:
        ValueError: if its states are constant.
    """
    moments.total(n)  # refuses constant states
    values, vectors = torch.linalg.eigh(moments.block(n, n))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    held = values.cumsum(0) / values.sum()
    kept = min(int((held < variance - _ROUNDING).sum()) + 1, len(values))
    scales = values[:kept].sqrt()
    whiten = vectors[:, :kept] / scales
    return Directions(whiten, moments.loadings[n] @ whiten if moments.loadings else vectors[:, :kept] * scales)


def products(into: Tensor, rows: Tensor, sizes: Sequence[int]) -> None:
    """Adds the products of all columns with each other, in the blocks on and above the diagonal.

    Args:
        into: scatter that is added to `[W, W]`, float64.
        rows: `[samples, W]`, on the same device.
        sizes: how the columns are cut into blocks; narrow blocks are taken together.
    """
    for start, stop in panels(sizes):
        into[start:stop, start:].addmm_(rows[:, start:stop].T, rows[:, start:])


def panels(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """First and last column of the panels that `products` fills, from the diagonal to the right."""
    found, start, stop = [], 0, 0
    for size in sizes:
        stop += size
        if stop - start >= _PANEL:
            found.append((start, stop))
            start = stop
    return [*found, (start, stop)] if stop > start else found


def matrix_of(moments: Moments, kind: Kind, variance: float) -> Tensor:
    """Distances between all models `[N, N]`, symmetric, 0 on the diagonal; see `distances_of`."""
    models = len(moments.sizes)
    matrix = torch.zeros(models, models, dtype=torch.float64)
    i, j = torch.triu_indices(models, models, offset=1)
    matrix[i, j] = matrix[j, i] = distances_of(moments, list(zip(i.tolist(), j.tolist(), strict=True)), kind, variance)
    return matrix


def distances_of(moments: Moments, pairs: Sequence[tuple[int, int]], kind: Kind, variance: float) -> Tensor:
    """How far apart are these pairs of models? `[pairs]`, float64; the order within a pair does not matter.

    Raises:
        ValueError: if the states of a model of a pair are constant, or there are too few samples.
    """
    ordered = [(min(pair), max(pair)) for pair in pairs]
    wanted = sorted({pair for pair in ordered if pair[0] != pair[1]})
    match kind:
        case "svcca" | "pwcca":
            found = _canonical_distances(moments, wanted, kind, variance)
        case "cka":
            found = _cka_distances(moments, wanted)
        case "procrustes":
            found = _procrustes_distances(moments, wanted)
    distance = dict(zip(wanted, found, strict=True))
    return torch.tensor([distance.get(pair, 0.0) for pair in ordered], dtype=torch.float64).clamp(min=0)


def canonical_correlations(moments: Moments, i: int, j: int, variance: float) -> Tensor:
    """Canonical correlations of two models' kept directions, falling `[min(K_i, K_j)]`; i < j."""
    kept = _kept(moments, [(i, j)], variance)
    correlations: Tensor = torch.linalg.svdvals(_between(moments, i, j, kept)).clamp(max=1)
    return correlations


def moved(scatter: Tensor, sizes: Sequence[int], shift: Tensor) -> Tensor:
    """What would the scatter be, had the squared norms been taken about another point?

    With x the state relative to the old point and x + d to the new one, |x + d|^2 = |x|^2 + 2 d.x + |d|^2: a linear
    map of the columns, so that no sample is needed.

    Args:
        scatter: as in `Moments`, blocks above the diagonal `[F + N, F + N]`.
        sizes: number of features of every model.
        shift: d, the old point minus the new one `[F]`.

    Returns:
        The last N columns of the new scatter `[F + N, N]`; the others stay.
    """
    features = sum(sizes)
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(scatter.device)
    mix = 2 * shift.unsqueeze(1) * torch.nn.functional.one_hot(owner, len(sizes))  # [F, N]
    inner = scatter[:features, :features]
    inner = inner.triu() + inner.triu(1).T
    cross, norms = scatter[:features, features:], scatter[features:, features:]
    carried = mix.T @ cross
    return torch.cat([cross + inner @ mix, norms + carried + carried.T + mix.T @ inner @ mix])


def _kept(moments: Moments, pairs: Sequence[tuple[int, int]], variance: float) -> dict[int, Directions]:
    """The directions of every model of these pairs, of which there may not be more than samples allow."""
    kept = {n: directions(moments, n, variance) for n in _members(pairs)}
    for i, j in pairs:
        first, second = (kept[n].whiten.shape[1] for n in (i, j))
        if first + second > moments.distinct - 1:
            raise ValueError(
                f"models {i} and {j} vary in {first} and {second} directions, but {moments.distinct:.0f} different "
                f"samples have room for {max(moments.distinct - 1, 0):.0f}: correlations would be 1 whatever the "
                f"states are. Take more samples (at least {first + second + 1}, better ten times that) or a smaller "
                f"variance"
            )
    return kept


def _members(pairs: Sequence[tuple[int, int]]) -> list[int]:
    return sorted({n for pair in pairs for n in pair})


def _between(moments: Moments, i: int, j: int, kept: dict[int, Directions]) -> Tensor:
    """Correlations between the kept directions of two models `[K_i, K_j]`."""
    return kept[i].whiten.T @ moments.block(i, j) @ kept[j].whiten


def _canonical_distances(
    moments: Moments, pairs: Sequence[tuple[int, int]], kind: Kind, variance: float
) -> list[float]:
    """1 - mean canonical correlation: the plain mean, or the mean of both models' projection-weighted ones."""
    kept = _kept(moments, pairs, variance)
    found = []
    for i, j in pairs:
        between = _between(moments, i, j, kept)
        if kind == "svcca":
            found.append(1 - float(torch.linalg.svdvals(between).clamp(max=1).mean()))
            continue
        left, correlations, right = torch.linalg.svd(between, full_matrices=False)
        similarities = []
        for n, turn in ((i, left), (j, right.T)):
            weights = (kept[n].loading @ turn).abs().sum(0)  # sum over features of |<canonical variate, feature>|
            similarities.append(float(weights @ correlations.clamp(max=1) / weights.sum()))
        found.append(1 - sum(similarities) / 2)
    return found


def _cka_distances(moments: Moments, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """1 - debiased linear CKA; may exceed 1 by the noise of states that have nothing in common.

    With states about their mean, K = X X^T has rows that sum to 0 and the squared norms q on its diagonal. The
    unbiased estimator leaves the diagonal out, after which everything in it is a moment:
    sum K'L' = |X^T Y|^2 - q.r, 1'K'1 = -sum q and 1'K'L'1 = q.r.
    """
    n = moments.samples
    if moments.distinct < 4:
        raise ValueError(f"debiased CKA needs at least 4 samples, got {moments.distinct:.0f}")
    features = sum(moments.sizes)
    totals = {k: moments.total(k) for k in _members(pairs)}
    norms = moved(moments.scatter, moments.sizes, -moments.mean[:features])[features:]

    def overlap(i: int, j: int) -> float:  # n (n - 3) times the unbiased HSIC
        products = float(norms[i, j]) + totals[i] * totals[j] / n  # q.r
        means = totals[i] * totals[j] / ((n - 1) * (n - 2))
        return float(moments.block(i, j).square().sum()) + means - products * n / (n - 2)

    own = {}
    for k in totals:
        own[k] = overlap(k, k)
        if own[k] <= _ROUNDING * totals[k] ** 2:
            raise ValueError(f"all states of model {k} are equally far from each other: debiased CKA is not defined")
    return [1 - overlap(i, j) / (own[i] * own[j]) ** 0.5 for i, j in pairs]


def _procrustes_distances(moments: Moments, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """1 - nuclear norm of X^T Y, both of unit Frobenius norm: half of what the best rotation leaves, in [0, 1]."""
    size = {n: moments.total(n) ** 0.5 for n in _members(pairs)}
    return [1 - float(torch.linalg.svdvals(moments.block(i, j)).sum()) / (size[i] * size[j]) for i, j in pairs]


def _finite(states: Tensor) -> bool:
    """A sum tells nearly always, and costs a tenth of looking at every number."""
    return bool(states.detach().sum().isfinite()) or bool(states.isfinite().all())
