"""Principal components of an embedding: the plane that is drawn and the spectrum below it (Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDING = 1e-12
"""Shares of variance, and spreads relative to the points' size, below this are rounding."""


@dataclass(frozen=True)
class PCA:
    """Along which axes do the models differ, and how much along each?

    Everything is float64 on the CPU, whatever the points were.

    Attributes:
        mean: mean of the points `[D]`.
        components: the axes as rows `[D, D]`, orthonormal, by falling variance.
        coordinates: the points in these axes `[N, D]`.
        spectrum: share of the variance along each axis `[D]`; sums to 1, or is all 0 where every point is
            the same.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import pca
        >>> theta = torch.tensor([[0.0, 1, 2], [2, 0, 1], [1, 2, 0], [3, 3, 3]])
        >>> axes = pca(theta)
        >>> axes.components_for(0.95), bool(torch.allclose(axes.back(axes.coordinates), theta.double()))
        (3, True)
    """

    mean: Tensor
    components: Tensor
    coordinates: Tensor
    spectrum: Tensor

    def components_for(self, share: float = 0.95) -> int:
        """How many components explain this share of the variance (the dotted line of Figure 3)?

        Returns:
            The smallest sufficient number; 0 where every point is the same.

        Raises:
            ValueError: if `share` is not in (0, 1].
        """
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {share}")
        if not self.spectrum.any():
            return 0
        return int((self.spectrum.cumsum(0) < share - _ROUNDING).sum()) + 1

    def project(self, points: Tensor) -> Tensor:
        """Where do other points lie in these axes? `[..., D]` to coordinates `[..., D]`."""
        return (_double(points) - self.mean) @ self.components.T

    def back(self, coordinates: Tensor) -> Tensor:
        """Which theta lies at these coordinates?

        Args:
            coordinates: `[..., K]` along the first K <= D components, such as grid points of the plane
                with K = 2; the remaining coordinates are 0, which is the mean.

        Returns:
            Points of the embedding `[..., D]`.

        Raises:
            ValueError: if there are more coordinates than components.
        """
        used, available = coordinates.shape[-1], len(self.components)
        if used > available:
            raise ValueError(f"{used} coordinates, but the embedding has {available} dimensions")
        return self.mean + _double(coordinates) @ self.components[:used]


def pca(points: Tensor) -> PCA:
    """In which plane do the embeddings differ most, and how many dimensions do they fill?

    The sign of an axis is arbitrary; here its loading of largest magnitude is positive, so that the same
    theta gives the same picture on every machine.

    Args:
        points: embeddings `[N, D]`, N >= 1; N < D is allowed.

    Raises:
        ValueError: if `points` is no such matrix, or holds NaN or infinity.

    Source: Figures 3, 4, 9 and 10 of the paper.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import pca
        >>> on_a_line = torch.tensor([[0.0, 0], [1, 2], [3, 6]])
        >>> pca(on_a_line).spectrum.round(decimals=6)
        tensor([1., 0.], dtype=torch.float64)
    """
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(f"points must be [N, D] with N, D >= 1, got {list(points.shape)}")
    values = _double(points)
    if not values.isfinite().all():
        bad = (~values.isfinite()).any(1).nonzero().flatten().tolist()
        raise ValueError(f"points hold NaN or infinity in rows {bad}")
    mean = values.mean(0)
    centred = values - mean
    if centred.abs().max() <= _ROUNDING * values.abs().max():
        centred = torch.zeros_like(values)
    _, singular, components = torch.linalg.svd(centred, full_matrices=True)
    components = _with_fixed_signs(components)
    variance = torch.zeros(values.shape[1], dtype=torch.float64)
    variance[: len(singular)] = singular.square()
    total = variance.sum()
    spectrum = variance / total if total > 0 else variance
    return PCA(mean, components, centred @ components.T, spectrum)


def _with_fixed_signs(components: Tensor) -> Tensor:
    """Turns every axis so that its loading of largest magnitude is positive `[D, D]`."""
    largest = components.abs().argmax(1, keepdim=True)
    return components * torch.where(components.gather(1, largest) < 0, -1.0, 1.0).double()


def _double(tensor: Tensor) -> Tensor:
    """Detached float64 on the CPU, in this order: not every device has float64."""
    return tensor.detach().cpu().double()
