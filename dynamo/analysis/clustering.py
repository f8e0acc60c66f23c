"""Do models of one kind lie together? The numbers behind "clusters by size, architecture, task, policy"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import factorial, prod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Metric = Literal["euclidean", "precomputed"]

_CHUNK_ELEMENTS = 4_000_000
_TIE = 1e-9


class PermutationTest(NamedTuple):
    """Could this clustering be chance?

    Attributes:
        statistic: silhouette of the true groups.
        p_value: `(1 + #{null >= statistic}) / (1 + permutations)`, so it is never 0.
        null_mean: mean silhouette of shuffled groups.
        null_std: standard deviation of the same.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import permutation_test
        >>> points = torch.tensor([[0.0], [0.1], [0.2], [0.3], [5.0], [5.1], [5.2], [5.3]])
        >>> found = permutation_test(points, ["a"] * 4 + ["b"] * 4)
        >>> round(found.statistic, 2), abs(found.null_mean) < 0.2
        (0.97, True)
    """

    statistic: float
    p_value: float
    null_mean: float
    null_std: float


class GroupDistances(NamedTuple):
    """How far apart are the groups, and how wide is each?

    Attributes:
        groups: names in order of first appearance, G of them.
        between: distances between centroids `[G, G]`.
        within: mean distance between two members of a group `[G]`; NaN for a group of one, which has none.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import group_distances
        >>> found = group_distances(torch.tensor([[0.0], [2.0], [10.0]]), ["a", "a", "b"])
        >>> found.groups, found.within
        (('a', 'b'), tensor([2., nan], dtype=torch.float64))
    """

    groups: tuple[str, ...]
    between: Tensor
    within: Tensor


def silhouette(points: Tensor, groups: Sequence[str], metric: Metric = "euclidean") -> float:
    """How clearly do the groups separate? 1 is perfectly, 0 not at all, below 0 is mixed up.

    The mean over members of `(b - a) / max(a, b)`: `a` is the mean distance to the rest of the own group,
    `b` to the nearest other group. A member that is alone in its group scores 0, as in scikit-learn.

    Args:
        points: `[N, any]`, such as theta or its first two principal components; or the distances
            themselves `[N, N]` with `metric="precomputed"`, such as those of SVCCA.
        groups: one name per point.
        metric: what `points` holds.

    Raises:
        ValueError: if there are fewer than two groups, or no group has two members.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import silhouette
        >>> theta = torch.tensor([[0.0, 0.0], [0.0, 1.0], [9.0, 0.0], [9.0, 1.0]])
        >>> round(silhouette(theta, ["small", "small", "large", "large"]), 3)
        0.889
        >>> round(silhouette(theta, ["small", "large", "small", "large"]), 3)  # groups that are mixed up
        -0.441
    """
    distances = _distances(points, groups, metric)
    _, index = _group_index(groups)
    return float(_silhouettes(distances, index.unsqueeze(0))[0])


def permutation_test(
    points: Tensor,
    groups: Sequence[str],
    permutations: int = 10_000,
    seed: int = 0,
    metric: Metric = "euclidean",
) -> PermutationTest:
    """Is the silhouette larger than chance would make it, had the group names nothing to do with the points?

    Distances are computed once; the names are shuffled over them, many shuffles at a time.

    Args:
        points: as in `silhouette`, `[N, any]` or distances `[N, N]`.
        groups: one name per point.
        permutations: number of shuffles.
        seed: decides the shuffles.
        metric: what `points` holds.

    Raises:
        ValueError: as `silhouette`, or if `permutations` is below 1.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import permutation_test
        >>> points = torch.tensor([[0.0], [0.1], [0.2], [0.3], [5.0], [5.1], [5.2], [5.3]])
        >>> round(permutation_test(points, ["a"] * 4 + ["b"] * 4).p_value, 2)  # 2 of the 70 ways to choose 4 of 8
        0.03
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    distances = _distances(points, groups, metric)
    names, index = _group_index(groups)
    statistic = float(_silhouettes(distances, index.unsqueeze(0))[0])
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, _CHUNK_ELEMENTS // (len(groups) * len(names)))
    parts = []
    for start in range(0, permutations, chunk):
        shape = (min(chunk, permutations - start), len(groups))
        order = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(1)
        parts.append(_silhouettes(distances, index[order]))
    null = torch.cat(parts)
    at_least = int((null >= statistic - _TIE).sum())  # equal groupings differ by rounding, and are ties
    return PermutationTest(
        statistic=statistic,
        p_value=(1 + at_least) / (1 + permutations),
        null_mean=float(null.mean()),
        null_std=float(null.std(correction=0)),
    )


def least_p(groups: Sequence[str]) -> float:
    """How small can p become, however clearly groups of these sizes lie apart?

    One over the number of ways to divide the points into groups of such sizes: a shuffle that finds the true one again
    is no evidence against chance. Fewer shuffles than that are a floor too, 1 / (1 + permutations).

    Args:
        groups: one name per point.

    Examples:
        >>> from dynamo.analysis import least_p
        >>> least_p(["a"] * 3 + ["b"] * 3), least_p(["a"] * 4 + ["b"] * 4)  # 10 ways, and 35
        (0.1, 0.02857142857142857)
    """
    sizes = Counter(groups).values()
    ways = factorial(len(groups)) // prod(map(factorial, sizes)) // prod(map(factorial, Counter(sizes).values()))
    return 1 / ways


def group_distances(points: Tensor, groups: Sequence[str]) -> GroupDistances:
    """How far apart are the groups' centroids, measured against the spread inside each group?

    Args:
        points: `[N, D]`.
        groups: one name per point; a single group, and groups of one, are allowed.

    Raises:
        ValueError: if `points` and `groups` do not match.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import group_distances
        >>> points = torch.tensor([[0.0, 0.0], [0.0, 2.0], [3.0, 4.0], [3.0, 6.0]])
        >>> group_distances(points, ["a", "a", "b", "b"]).between
        tensor([[0., 5.],
                [5., 0.]], dtype=torch.float64)
    """
    values = _checked(points, groups)
    names, index = _group_index(groups)
    centroids = torch.stack([values[index == g].mean(0) for g in range(len(names))])
    spreads = [euclidean_distances(values[index == g]) for g in range(len(names))]
    within = [d.sum() / (len(d) * (len(d) - 1)) if len(d) > 1 else d.new_tensor(torch.nan) for d in spreads]
    return GroupDistances(names, euclidean_distances(centroids), torch.stack(within))


def _silhouettes(distances: Tensor, index: Tensor) -> Tensor:
    """Mean silhouette of P groupings `[P, N]` of the same points, given their distances `[N, N]`: `[P]`."""
    shuffles, points = index.shape
    groups = int(index.max()) + 1
    member = torch.nn.functional.one_hot(index.T, groups)  # [N, P, G], so that one matrix product does it all
    counts = member[:, 0].sum(0)  # [G], the same for every shuffle
    flat = member.to(distances.dtype).reshape(points, shuffles * groups)
    sums = (distances @ flat).view(points, shuffles, groups)  # of every point's distances to every group
    own = counts[index.T]
    inside = sums.gather(2, index.T.unsqueeze(2)).squeeze(2) / (own - 1).clamp(min=1)
    outside = (sums / counts).masked_fill(member.bool(), torch.inf).amin(2)
    scores = (outside - inside) / torch.maximum(inside, outside).clamp(min=torch.finfo(distances.dtype).tiny)
    return torch.where(own > 1, scores, 0.0).mean(0)


def _distances(points: Tensor, groups: Sequence[str], metric: Metric) -> Tensor:
    """Checked distances `[N, N]` in float64, for groups of which a silhouette exists."""
    values = _checked(points, groups)
    kinds = len(set(groups))
    if kinds < 2:
        raise ValueError("a silhouette compares groups: at least two are needed, all members have the same")
    if kinds == len(groups):
        raise ValueError(f"every one of the {kinds} groups has one member: a silhouette needs a group of two")
    if metric == "euclidean":
        return euclidean_distances(values)
    if values.shape[0] != values.shape[1]:
        raise ValueError(f"precomputed distances must be [N, N], got {list(values.shape)}")
    if values.diagonal().any():
        raise ValueError("precomputed distances must be 0 on the diagonal (similarities were given?)")
    return values


def _checked(points: Tensor, groups: Sequence[str]) -> Tensor:
    """The points as finite float64 on the CPU, one row per group name."""
    if points.ndim != 2 or len(points) != len(groups) or not len(groups):
        raise ValueError(f"points {list(points.shape)} must be [N, D] with one group each, not {len(groups)}")
    values = points.detach().cpu().double()
    if not values.isfinite().all():
        raise ValueError("points hold NaN or infinity")
    return values


def euclidean_distances(values: Tensor) -> Tensor:
    """How far apart are points `[N, D]`? `[N, N]`, float64 on the CPU; from differences, so that the diagonal is 0.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import euclidean_distances
        >>> euclidean_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[0., 5.],
                [5., 0.]], dtype=torch.float64)
    """
    values = values.detach().cpu().double()
    return torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")


def distances_to(points: Tensor, theta: Tensor) -> Tensor:
    """How far is every newcomer from every member of a map? `[M, D]` and `[N, D]` -> `[M, N]`, float64 on the CPU.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import distances_to
        >>> distances_to(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
        tensor([[5., 4.]], dtype=torch.float64)
    """
    new, old = (values.detach().cpu().double() for values in (points, theta))
    return torch.cdist(new, old, compute_mode="donot_use_mm_for_euclid_dist")


def distances_to_groups(distances: Tensor, groups: Sequence[str]) -> dict[str, Tensor]:
    """How far is every newcomer from each group? The mean of its distances to the group's members, by group `[M]`.

    Args:
        distances: of newcomers and members, `[M, N]`.
        groups: of the members, one name each.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import distances_to_groups
        >>> distances_to_groups(torch.tensor([[1.0, 3.0, 8.0]]), ["GRU", "GRU", "LSTM"])
        {'GRU': tensor([2.]), 'LSTM': tensor([8.])}
    """
    chosen = {name: [i for i, group in enumerate(groups) if group == name] for name in dict.fromkeys(groups)}
    return {name: distances[:, members].mean(1) for name, members in chosen.items()}


def _group_index(groups: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    """Names in order of first appearance, and for every member the index of its name `[N]`."""
    names = tuple(dict.fromkeys(groups))
    return names, torch.tensor([names.index(group) for group in groups])
