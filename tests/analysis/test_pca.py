"""PCA recovers what was planted, and is indifferent to what it should be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynamo.analysis.pca import pca


def _rotation(width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]


def _cross(lengths: list[float]) -> Tensor:
    """Two points at +-length on every axis: the axes and the variances along them are known exactly."""
    arms = torch.diag(torch.tensor(lengths, dtype=torch.float64))
    return torch.cat([arms, -arms])


def _random(rows: int = 12, width: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_recovers_planted_axes_and_spectrum() -> None:
    rotation = _rotation(4, seed=1)
    found = pca(_cross([1.0, 4.0, 2.0, 3.0]) @ rotation + 7.0)
    torch.testing.assert_close(found.mean, torch.full((4,), 7.0, dtype=torch.float64))
    squares = torch.tensor([16.0, 9.0, 4.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(found.spectrum, squares / 30)
    planted = rotation[[1, 3, 2, 0]]
    torch.testing.assert_close((found.components * planted).sum(1).abs(), torch.ones(4, dtype=torch.float64))


def test_spectrum_ignores_rotation_translation_and_scale() -> None:
    points = _random()
    moved = 3.0 * points @ _rotation(5, seed=2) - 11.0
    torch.testing.assert_close(pca(moved).spectrum, pca(points).spectrum)


@pytest.mark.parametrize(("rows", "width"), [(12, 5), (3, 8), (1, 3), (5, 1)])
def test_back_undoes_project(rows: int, width: int) -> None:
    points = _random(rows, width)
    found = pca(points)
    assert found.components.shape == (width, width)
    torch.testing.assert_close(found.components @ found.components.T, torch.eye(width, dtype=torch.float64))
    others = _random(7, width, seed=3)
    torch.testing.assert_close(found.back(found.project(others)), others)
    torch.testing.assert_close(found.project(points), found.coordinates)
    torch.testing.assert_close(found.back(found.coordinates), points)


def test_back_of_the_plane_is_the_mean_plus_the_first_two_axes() -> None:
    found = pca(_random())
    grid = torch.tensor([[[0.0, 0.0], [2.0, -1.0]]])
    expected = torch.stack([found.mean, found.mean + 2 * found.components[0] - found.components[1]])
    torch.testing.assert_close(found.back(grid), expected.unsqueeze(0))
    with pytest.raises(ValueError, match="6 coordinates, but the embedding has 5 dimensions"):
        found.back(torch.zeros(6))


def test_signs_follow_the_largest_loading_whatever_the_order_or_mirror_of_the_points() -> None:
    points = _random()
    found = pca(points)
    largest = found.components.abs().argmax(1, keepdim=True)
    assert (found.components.gather(1, largest) > 0).all()
    torch.testing.assert_close(pca(points.flip(0)).components, found.components)
    torch.testing.assert_close(pca(-points).components, found.components)
    torch.testing.assert_close(pca(points.float()).components, found.components, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 1), (0.53, 1), (0.54, 2), (0.95, 3), (0.97, 4), (1.0, 4)])
def test_components_for_counts_what_the_share_needs(share: float, expected: int) -> None:
    assert pca(_cross([4.0, 3.0, 2.0, 1.0])).components_for(share) == expected  # 16, 9, 4, 1 of 30


def test_components_for_everything_stops_at_the_rank_and_hits_exact_shares() -> None:
    assert pca(_cross([3.0, 1.0, 0.0, 0.0])).components_for(1.0) == 2
    assert pca(_cross([1.0] * 10)).components_for(0.7) == 7  # 0.1 seven times is 0.7 less rounding
    with pytest.raises(ValueError, match="share"):
        pca(_random()).components_for(0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_equal_points_give_zeros_and_no_nan(value: float) -> None:
    found = pca(torch.full((6, 3), value))
    assert not found.spectrum.any()
    assert not found.coordinates.any()
    assert found.components_for() == 0
    torch.testing.assert_close(found.back(torch.zeros(2)), found.mean)


def test_small_spread_is_not_taken_for_none() -> None:
    points = 1.0 + 1e-9 * _cross([2.0, 1.0])
    torch.testing.assert_close(pca(points).spectrum, torch.tensor([0.8, 0.2], dtype=torch.float64), atol=1e-5, rtol=0)


def test_input_is_left_alone_and_needs_no_gradient() -> None:
    theta = torch.nn.Parameter(_random().float())
    before = theta.detach().clone()
    found = pca(theta)
    assert torch.equal(theta, before)
    assert not found.coordinates.requires_grad
    assert found.coordinates.dtype == torch.float64


def test_refuses_what_is_no_embedding() -> None:
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        pca(torch.zeros(3))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        pca(torch.zeros(0, 3))
    points = _random()
    points[4, 1] = torch.nan
    with pytest.raises(ValueError, match=r"rows \[4\]"):
        pca(points)
