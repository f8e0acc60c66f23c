"""Multidimensional scaling: points whose distances are like given ones, to draw what has no coordinates (Figure 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.manifold import smacof
from torch import Tensor

_ROUNDING = 1e-12
"""Eigenvalues below this share of the largest are rounding."""

_TIE = 1e-9
_STARTS, _STEPS, _PRECISION = 4, 2_000, 1e-11


@dataclass(frozen=True)
class MDS:
    """Which points have these distances, and how far from true is their picture?

    Everything is float64 on the CPU.

    Attributes:
        coordinates: one point per model `[N, k]`, about the origin, along principal axes by falling variance.
        stress: Kruskal's stress-1, `sqrt(sum (d - d')^2 / sum d'^2)` with d' the distances in the picture. By
            Kruskal's own scale 0.025 is excellent, 0.05 good, 0.1 fair, 0.2 poor.
        negative_share: share of negative eigenvalues in the sum of all magnitudes, in [0, 0.5]; 0 if the distances
            are those of points in some Euclidean space.
        eigenvalues: of the doubly centred squared distances, falling `[N]`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import classical_mds
        >>> on_a_line = classical_mds(torch.tensor([[0.0, 1, 3], [1, 0, 2], [3, 2, 0]]))
        >>> on_a_line.coordinates.shape, round(on_a_line.stress, 6)
        (torch.Size([3, 2]), 0.0)
        >>> classical_mds(torch.tensor([[0.0, 1, 9], [1, 0, 1], [9, 1, 0]])).negative_share > 0.1  # no such points
        True
    """

    coordinates: Tensor
    stress: float
    negative_share: float
    eigenvalues: Tensor


def classical_mds(distances: Tensor, k: int = 2) -> MDS:
    """In which picture do models lie as far apart as given, by principal components of the distances?

    Exact in k dimensions where such points exist (Torgerson 1952). The sign of an axis is arbitrary; here its
    coordinate of largest magnitude is positive, so that the same distances give the same picture.

    Args:
        distances: `[N, N]`, symmetric, 0 on the diagonal.
        k: dimensions of the picture, at most N; those that the distances do not fill are 0.

    Raises:
        ValueError: if these are no distances, or k is out of range.

    Source: Figure 5 of the paper. Not given in the paper: which kind of scaling.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import classical_mds, euclidean_distances
        >>> triangle = torch.tensor([[0.0, 3, 4], [3, 0, 5], [4, 5, 0]])
        >>> euclidean_distances(classical_mds(triangle).coordinates).round(decimals=6)
        tensor([[0., 3., 4.],
                [3., 0., 5.],
                [4., 5., 0.]], dtype=torch.float64)
    """
    values = _checked(distances, k)
    squares = values.square()
    means = squares.mean(0)
    products = -(squares - means - means.unsqueeze(1) + means.mean()) / 2
    eigenvalues, vectors = torch.linalg.eigh(products)
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    magnitudes = eigenvalues.abs()
    eigenvalues = torch.where(magnitudes > _ROUNDING * magnitudes.max(), eigenvalues, 0.0)
    total = float(eigenvalues.abs().sum())
    negative = float(eigenvalues.clamp(max=0).abs().sum())
    coordinates = _with_fixed_signs(vectors[:, :k] * eigenvalues[:k].clamp(min=0).sqrt())
    return MDS(coordinates, _stress(values, coordinates), negative / total if total else 0.0, eigenvalues)


def smacof_mds(distances: Tensor, k: int = 2, seed: int = 0) -> MDS:
    """In which picture do models lie as far apart as given, with the least summed squared error?

    Metric scaling by majorisation, scikit-learn's: unlike the classical kind it fits the distances themselves, not
    their squares. It finds the nearest local minimum; so it starts from the classical solution and from a few random
    ones, and the first of the best is taken.

    Args:
        distances: `[N, N]`, symmetric, 0 on the diagonal.
        k: dimensions of the picture, at most N.
        seed: decides the random starts.

    Raises:
        ValueError: as `classical_mds`.

    Source: Figure 5 of the paper. Not given in the paper: which kind of scaling.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import classical_mds, smacof_mds
        >>> impossible = torch.tensor([[0.0, 1, 1], [1, 0, 3], [1, 3, 0]])  # 1 + 1 is less than 3
        >>> round(smacof_mds(impossible).stress, 3), round(classical_mds(impossible).stress, 3)
        (0.177, 0.192)
    """
    start = classical_mds(distances, k)
    values = _checked(distances, k)
    if not values.any():
        return start
    scale = float(values.max())  # scikit-learn's guard against dividing by 0 is an absolute number
    generator = torch.Generator().manual_seed(seed)
    shape = start.coordinates.shape
    starts = [start.coordinates / scale]
    starts += [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(_STARTS)]
    best, least = starts[0], torch.inf
    for init in starts:
        # All that differs between versions of scikit-learn is given: the number of starts, the stop, the stress.
        found, raw = smacof(
            (values / scale).numpy(),
            n_components=k,
            init=init.numpy(),
            n_init=1,
            max_iter=_STEPS,
            eps=_PRECISION,
            normalized_stress=False,
        )
        if raw < least * (1 - 1e-6):
            best, least = torch.from_numpy(np.asarray(found)), float(raw)
    centred = (best - best.mean(0)) * scale
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    coordinates = torch.zeros(shape, dtype=torch.float64)
    coordinates[:, : len(axes)] = _with_fixed_signs(centred @ axes.T)
    return MDS(coordinates, _stress(values, coordinates), start.negative_share, start.eigenvalues)


def _checked(distances: Tensor, k: int) -> Tensor:
    """The distances as exactly symmetric float64 on the CPU."""
    values = distances.detach().cpu().double()
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not values.numel():
        raise ValueError(f"distances must be [N, N], got {list(values.shape)}")
    if not values.isfinite().all():
        bad = (~values.isfinite()).any(1).nonzero().flatten().tolist()
        raise ValueError(f"distances hold NaN or infinity in rows {bad}")
    if values.diagonal().any():
        raise ValueError("distances must be 0 on the diagonal (similarities were given?)")
    if (values < 0).any() or not torch.allclose(values, values.T):
        raise ValueError("distances must be symmetric and not negative")
    if not 1 <= k <= len(values):
        raise ValueError(f"k must lie between 1 and the number of models, {len(values)}, got {k}")
    return (values + values.T) / 2


def _stress(distances: Tensor, coordinates: Tensor) -> float:
    """Kruskal's stress-1; 0 where all distances are."""
    drawn = torch.cdist(coordinates, coordinates, compute_mode="donot_use_mm_for_euclid_dist")
    missed, total = (distances - drawn).square().sum(), drawn.square().sum()
    return float((missed / total).sqrt()) if total > 0 else 0.0


def _with_fixed_signs(coordinates: Tensor) -> Tensor:
    """Turns every axis so that its coordinate of largest magnitude, the first of equal ones, is positive `[N, k]`."""
    magnitudes = coordinates.abs()
    largest = (magnitudes >= (1 - _TIE) * magnitudes.amax(0)).int().argmax(0, keepdim=True)
    return coordinates * torch.where(coordinates.gather(0, largest) < 0, -1.0, 1.0).double()
