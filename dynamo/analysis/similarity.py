"""How alike are the representations of two networks, whatever basis each chose? (Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynamo.analysis.similarity_measures import (
    Kind,
    Moments,
    canonical_correlations,
    check_options,
    check_states,
    directions,
    matrix_of,
    precision_of,
    products,
)
from dynamo.analysis.similarity_sums import SimilaritySums

__all__ = [
    "SVCCA",
    "DistanceCorrelation",
    "Kind",
    "SimilaritySums",
    "distance_correlation",
    "pairwise",
    "svcca",
]

_CHUNK_ELEMENTS = 4_000_000
_TIE = 1e-9


class SVCCA(NamedTuple):
    """How much of what one network represents is a linear map of what the other does?

    Attributes:
        correlations: canonical correlations, falling, one for each kept direction of the model that keeps fewer,
            `[K]`, float64 on the CPU.
        similarity: their plain mean, in [0, 1].
        distance: 1 - similarity.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import svcca
        >>> x, y = torch.randn(2000, 3), torch.randn(2000, 3)
        >>> found = svcca(x, torch.cat([x[:, :1], y[:, :2]], dim=1))  # one direction of three in common
        >>> round(found.similarity, 1), found.correlations.round(decimals=1)[0]
        (0.4, tensor(1., dtype=torch.float64))
    """

    correlations: Tensor
    similarity: float
    distance: float


class DistanceCorrelation(NamedTuple):
    """Do two distance matrices of the same models agree?

    Attributes:
        pearson: correlation over all pairs of models.
        spearman: the same of the distances' ranks.
        p_value: share of joint shuffles of the models with a Pearson correlation at least as large (Mantel's
            test), `(1 + #) / (1 + permutations)`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import distance_correlation, euclidean_distances
        >>> distances = euclidean_distances(torch.tensor([[0.0], [1.0], [3.0], [7.0]]))
        >>> found = distance_correlation(distances, distances.square())  # the same order, not the same shape
        >>> round(found.spearman, 6), round(found.pearson, 2)
        (1.0, 0.98)
    """

    pearson: float
    spearman: float
    p_value: float


def svcca(x: Tensor, y: Tensor, variance: float = 0.99) -> SVCCA:
    """How alike are two representations of the same samples?

    Both are reduced to the fewest directions that hold `variance` of their variance; the canonical correlations are
    those between what is left (Raghu et al. 2017). States that have nothing in common do not read 0 but something
    like the square root of (directions / samples): take many times more samples than directions.

    Args:
        x: states of one network `[samples, H]`.
        y: states of the other `[samples, any H]`.
        variance: share of the variance to keep, in (0, 1].

    Raises:
        ValueError: if the states do not fit together, hold NaN, are constant, or have too few samples for the
            directions that they keep.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import svcca
        >>> x = torch.randn(200, 5)
        >>> rotation = torch.linalg.qr(torch.randn(5, 5))[0]
        >>> round(svcca(x, x @ rotation).similarity, 6)
        1.0
        >>> round(svcca(x, torch.randn(200, 5)).similarity, 1)  # nothing in common
        0.1
    """
    correlations = canonical_correlations(_reduced([x, y], variance), 0, 1, variance=1.0)
    similarity = float(correlations.mean())
    return SVCCA(correlations, similarity, 1 - similarity)


def pairwise(states: Sequence[Tensor], kind: Kind = "svcca", variance: float = 0.99) -> Tensor:
    """How far apart are N networks by their states on the same samples?

    Each model is factorised once; a pair costs a product of small matrices. For states that do not fit into memory
    there is `SimilaritySums`, which gives the same from batches, to within rounding: for svcca and pwcca about 2e-16
    divided by the share of the variance that the weakest kept direction holds (1e-7 was seen with `variance=1.0` on
    spectra that fall steeply), where this function loses the square root of it.

    Args:
        states: one `[samples, H_n]` per model, the same samples in the same order.
        kind: the measure. All lie in [0, 1] (cka up to noise above 1), and are indifferent to where either model's
            states lie and to how large they are; all but pwcca also to rotation.

            - svcca: 1 - mean canonical correlation of the kept directions; indifferent to every invertible map of
              them (Raghu et al. 2017).
            - pwcca: the same with the correlations weighted by how much of the model's own activations lies along
              their variates (Morcos et al. 2018), within the kept directions. That mean depends on whose
              activations weigh, so the mean of both is taken; and on the basis of the features, since absolute
              values are summed over them. Where two correlations are equal the variates, and so the weights, are not
              determined: by its definition the measure jumps there.
            - cka: 1 - linear CKA from the unbiased estimator of HSIC (Kornblith et al. 2019; Song et al. 2012).
            - procrustes: 1 - nuclear norm of X^T Y with both centred and of unit norm, which is half of the squared
              distance after the best rotation (Ding et al. 2021).
        variance: share of the variance that svcca and pwcca keep; the others keep all.

    Returns:
        Distances `[N, N]`, float64 on the CPU, symmetric, 0 on the diagonal.

    Raises:
        ValueError: if the states do not fit together, hold NaN, are constant in a model, or have too few samples
            for the directions that two models keep.

    Source: Figure 5 of the paper. Not given in the paper: the share of the variance, the mean.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import pairwise
        >>> x, other = torch.randn(500, 5), torch.randn(500, 5)
        >>> permuted = x[:, torch.tensor([3, 1, 4, 0, 2])]
        >>> distances = pairwise([x, permuted, other])
        >>> bool(distances[0, 1] < 1e-6), bool(distances[0, 2] > 0.8)
        (True, True)
    """
    check_options(kind, variance)
    if kind in ("svcca", "pwcca"):
        return matrix_of(_reduced(states, variance), kind, variance=1.0)
    _check(states)
    sums = SimilaritySums([x.shape[1] for x in states])
    sums.update(states)
    return sums.distances(kind, variance)


def distance_correlation(a: Tensor, b: Tensor, permutations: int = 10_000, seed: int = 0) -> DistanceCorrelation:
    """Do two measures place the same models the same way (distances of SVCCA against those of theta)?

    The test shuffles the models of `b`, rows and columns alike, since the distances of one model are not
    independent of each other. It is one-sided: distances that oppose each other have a p-value near 1.

    Args:
        a: distances `[N, N]`, symmetric, 0 on the diagonal, N >= 3.
        b: other distances between the same models in the same order `[N, N]`.
        permutations: number of shuffles.
        seed: decides the shuffles.

    Raises:
        ValueError: if these are no such matrices, all distances of one are equal, or `permutations` is below 1.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import distance_correlation, euclidean_distances
        >>> theta = torch.randn(12, 4)
        >>> found = distance_correlation(euclidean_distances(theta), 3 * euclidean_distances(theta), permutations=999)
        >>> round(found.pearson, 6), round(found.p_value, 6)
        (1.0, 0.001)
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    first, second = _standardised(a, "a"), _standardised(b, "b")
    if first.shape != second.shape:
        raise ValueError(f"the distances are of {len(first)} and of {len(second)} models, they must be the same ones")
    pearson = float((first * second).sum())
    generator = torch.Generator().manual_seed(seed)
    at_least, models = 0, len(first)
    chunk = max(1, _CHUNK_ELEMENTS // models**2)
    for start in range(0, permutations, chunk):
        shape = (min(chunk, permutations - start), models)
        order = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(1)
        shuffled = second[order.unsqueeze(2), order.unsqueeze(1)]
        at_least += int(((first * shuffled).sum((1, 2)) >= pearson - _TIE).sum())  # ties differ by rounding
    spearman = float((_standardised(_ranks(a), "a") * _standardised(_ranks(b), "b")).sum())
    return DistanceCorrelation(pearson, spearman, (1 + at_least) / (1 + permutations))


def _reduced(states: Sequence[Tensor], variance: float) -> Moments:
    """The moments of each model's states along the directions that it keeps, scaled to the same length in each.

    One more product per model, which saves most of those between models where variance lies in few directions,
    and leaves weak directions all their digits.
    """
    check_options("svcca", variance)
    _check(states)
    samples, kept, loadings = len(states[0]), [], []
    if samples < 2:
        raise ValueError(f"distances between models need at least 2 samples, got {samples}")
    for n, x in enumerate(states):
        centred = (x.detach().cpu() if x.device.type == "mps" else x.detach()).double()
        centre = centred.mean(0)
        centred = centred - centre
        scatter = (centred.T @ centred).cpu()
        mean, precision = torch.zeros_like(centre).cpu(), (precision_of(x),)
        found = directions(
            Moments((x.shape[1],), samples, samples, centre.cpu(), mean, scatter, n, precision), 0, variance
        )
        kept.append(centred @ found.whiten.to(centred.device))
        loadings.append(found.loading)
    sizes = tuple(y.shape[1] for y in kept)
    joined = torch.cat(kept, 1)
    scatter = joined.new_zeros(sum(sizes), sum(sizes))
    products(scatter, joined, sizes)
    nowhere = scatter.new_zeros(sum(sizes)).cpu()
    return Moments(sizes, samples, samples, nowhere, nowhere, scatter.cpu(), loadings=tuple(loadings))


def _check(states: Sequence[Tensor]) -> None:
    """Raises ValueError unless these are the same samples for one or more models."""
    if not len(states) or any(x.ndim != 2 or not x.shape[1] for x in states):
        raise ValueError(f"states must be [samples, H] with H >= 1, got {[list(x.shape) for x in states]}")
    check_states(states, [x.shape[1] for x in states])


def _standardised(distances: Tensor, name: str) -> Tensor:
    """Distances with mean 0 and squares summing to 1 over the matrix, 0 on the diagonal `[N, N]`."""
    values = distances.detach().cpu().double()
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 3:
        raise ValueError(f"distances {name} must be [N, N] with N >= 3, got {list(values.shape)}")
    if not values.isfinite().all():
        raise ValueError(f"distances {name} hold NaN or infinity")
    if values.diagonal().any() or not torch.allclose(values, values.T):
        raise ValueError(f"distances {name} must be symmetric and 0 on the diagonal (similarities were given?)")
    off = ~torch.eye(len(values), dtype=torch.bool)
    centred = torch.where(off, values - values[off].mean(), 0.0)
    norm = centred.norm()
    if norm <= _TIE * values.norm():
        raise ValueError(f"all distances {name} are equal: there is nothing to correlate")
    scaled: Tensor = centred / norm
    return scaled


def _ranks(distances: Tensor) -> Tensor:
    """The place of each pair's distance among those of all pairs, equal ones sharing theirs `[N, N]`."""
    i, j = torch.triu_indices(len(distances), len(distances), offset=1)
    _, place, counts = distances.detach().cpu()[i, j].unique(return_inverse=True, return_counts=True)
    ranks = torch.zeros(distances.shape, dtype=torch.float64)
    ranks[i, j] = ranks[j, i] = (counts.cumsum(0) - (counts - 1) / 2)[place].double()
    return ranks
