"""The plane of the embedding that maps are drawn in, and a grid of points over it (Figures 6, 8 and 11)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynamo.analysis.pca import PCA, pca

_FLAT = 1e-6
"""An axis along which the members extend by less than this share of the other axis is taken for flat."""


@dataclass(frozen=True)
class PlaneAxes:
    """Which plane through the embedding is looked at? Everything is float64 on the CPU, as in `PCA`.

    Attributes:
        members: where the models lie in it `[N, 2]`.
        axes: principal components of theta, whose first two span the plane; None where D = 2 and theta itself is
            the plane.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import plane_of
        >>> theta = torch.tensor([[0.0, 0.0, 7.0], [2.0, 0.0, 7.0], [0.0, 1.0, 7.0]])
        >>> plane = plane_of(theta)
        >>> bool(torch.allclose(plane.back(plane.project(theta)), theta.double()))  # these three lie in it
        True
    """

    members: Tensor
    axes: PCA | None

    def project(self, points: Tensor) -> Tensor:
        """Where in the plane do other points appear? `[..., D]` to coordinates `[..., 2]`."""
        return points.detach().cpu().double() if self.axes is None else self.axes.project(points)[..., :2]

    def back(self, coordinates: Tensor) -> Tensor:
        """Which theta lies at these coordinates? `[..., 2]` to points of the plane `[..., D]`."""
        return coordinates.detach().cpu().double() if self.axes is None else self.axes.back(coordinates)


def plane_of(theta: Tensor) -> PlaneAxes:
    """In which plane are maps drawn? That of the first two principal components; theta's own where D = 2.

    Args:
        theta: embeddings `[N, D]`.

    Raises:
        ValueError: D = 1, all models at one point, or `theta` is no such matrix or holds NaN or infinity.

    Source: Figures 6, 8 and 11 of the paper.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import plane_of
        >>> theta = torch.tensor([[-1.0, 0.0, 7.0], [1.0, 0.0, 7.0], [0.0, 5.0, 7.0], [0.0, -5.0, 7.0]])
        >>> plane_of(theta).members.abs().amax(0).round(decimals=6)  # the second coordinate varies most
        tensor([5., 1.], dtype=torch.float64)
    """
    axes = pca(theta)
    if theta.shape[1] < 2:
        raise ValueError("a plane needs two dimensions, the embedding has 1: train the meta-model with D >= 2")
    if not axes.spectrum.any():
        raise ValueError(f"all {len(theta)} models lie at one point: there is no plane before theta is trained")
    members = theta.detach().cpu().double() if theta.shape[1] == 2 else axes.coordinates[:, :2]
    return PlaneAxes(members, None if theta.shape[1] == 2 else axes)


@dataclass(frozen=True)
class PlaneGrid:
    """At which points of the embedding is the map computed?

    Attributes:
        points: theta at the grid's points `[P, D]`, P = rows * columns, row after row (y outer, x inner), in the
            type and on the device of theta.
        x: coordinates of the columns along the first axis of the plane, ascending, float64 `[columns]`.
        y: coordinates of the rows along the second `[rows]`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import plane_grid
        >>> grid = plane_grid(torch.tensor([[0.0, 0.0], [2.0, 1.0]]), size=3, margin=0)
        >>> grid.x.tolist(), grid.y.tolist(), grid.points.shape
        ([0.0, 1.0, 2.0], [0.0, 0.5, 1.0], torch.Size([9, 2]))
    """

    points: Tensor
    x: Tensor
    y: Tensor


def plane_grid(theta: Tensor, size: int = 21, margin: float = 0.25) -> PlaneGrid:
    """Which grid covers all models in the plane, and some of what lies around them?

    Args:
        theta: embeddings `[N, D]`.
        size: points along each axis, at least 2.
        margin: what is added on each side, as a share of the models' extent along that axis. Where they have none
            (two models, or all on a line), the extent along the other axis takes its place.

    Raises:
        ValueError: as in `plane_of`, or `size` or `margin` out of range.

    Source: Figure 6. Extent and number of the grid's points are not given in the paper.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import plane_grid
        >>> plane_grid(torch.tensor([[0.0, 0.0], [2.0, 1.0]]), size=2, margin=0.5).points
        tensor([[-1.0000, -0.5000],
                [ 3.0000, -0.5000],
                [-1.0000,  1.5000],
                [ 3.0000,  1.5000]])
    """
    if size < 2 or not 0 <= margin < math.inf:
        raise ValueError(f"a grid needs size >= 2 points a side and margin >= 0, got {size} and {margin}")
    plane = plane_of(theta)
    low, high = plane.members.amin(0), plane.members.amax(0)
    middle, extent = (low + high) / 2, high - low
    extent = torch.where(extent > _FLAT * extent.max(), extent, extent.max())
    x, y = (
        torch.linspace(float(centre - reach), float(centre + reach), size, dtype=torch.float64)
        for centre, reach in zip(middle, (0.5 + margin) * extent, strict=True)
    )
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    points = plane.back(torch.stack([columns.flatten(), rows.flatten()], dim=1))
    return PlaneGrid(points.to(theta.dtype).to(theta.device), x, y)
