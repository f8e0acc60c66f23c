"""Scaling recovers planted points, knows what cannot be drawn, and gives the same picture for the same distances."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynamo.analysis.mds import MDS, classical_mds, smacof_mds

SCALINGS = [classical_mds, smacof_mds]
SQUARE = torch.tensor([[0.0, 1, 2, 1], [1, 0, 1, 2], [2, 1, 0, 1], [1, 2, 1, 0]])  # along the edges of a square

Scaling = Callable[..., MDS]


def _points(models: int, width: int, seed: int) -> Tensor:
    return torch.randn(models, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _distances(points: Tensor) -> Tensor:
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _raw(found: MDS, distances: Tensor) -> float:
    return float((_distances(found.coordinates) - distances).square().sum())


def _not_euclidean(models: int = 9, seed: int = 5) -> Tensor:
    noise = _points(models, models, seed).abs()
    return (_distances(_points(models, 4, seed)) + noise + noise.T).fill_diagonal_(0)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_recovers_planted_distances(scaling: Scaling) -> None:
    points = _points(9, 2, seed=0) * torch.tensor([3.0, 1.0])
    found = scaling(_distances(points))
    torch.testing.assert_close(_distances(found.coordinates), _distances(points), atol=1e-6, rtol=0)
    assert found.stress < 1e-6
    assert found.negative_share == 0
    variance = (points - points.mean(0)).T @ (points - points.mean(0))
    torch.testing.assert_close(found.eigenvalues[:2], torch.linalg.eigvalsh(variance).flip(0))
    assert not found.eigenvalues[2:].any()
    assert found.coordinates.dtype == torch.float64


@pytest.mark.parametrize("scaling", SCALINGS)
def test_axes_are_principal_with_fixed_signs(scaling: Scaling) -> None:
    points = _points(8, 3, seed=1)
    distances = _distances(points)
    found = scaling(distances, k=2)
    products = found.coordinates.T @ found.coordinates
    assert abs(float(products[0, 1])) < 1e-9
    assert products[0, 0] > products[1, 1]
    torch.testing.assert_close(found.coordinates.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    largest = found.coordinates.abs().argmax(0, keepdim=True)
    assert (found.coordinates.gather(0, largest) > 0).all()
    again = scaling(_distances(-points @ torch.linalg.qr(_points(3, 3, seed=2))[0] + 4.0), k=2)
    torch.testing.assert_close(again.coordinates, found.coordinates, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_order_and_unit_of_the_models_do_not_matter(scaling: Scaling) -> None:
    distances, order = _distances(_points(7, 3, seed=3)), [3, 0, 6, 1, 5, 2, 4]
    found = scaling(distances)
    shuffled = scaling(distances[order][:, order])
    assert shuffled.stress == pytest.approx(found.stress, abs=1e-5)
    torch.testing.assert_close(shuffled.coordinates, found.coordinates[order], atol=5e-3, rtol=0)
    small = scaling(1e-6 * distances)
    torch.testing.assert_close(1e6 * small.coordinates, found.coordinates, atol=1e-6, rtol=0)
    assert small.stress == pytest.approx(found.stress)


def test_a_square_of_edges_by_hand() -> None:
    found = classical_mds(SQUARE)
    torch.testing.assert_close(found.eigenvalues, torch.tensor([2.0, 2.0, 0.0, -1.0], dtype=torch.float64))
    assert found.negative_share == pytest.approx(0.2)
    # drawn with the right diagonals 2, and sides of sqrt(2) instead of 1
    assert found.stress == pytest.approx((4 * (2**0.5 - 1) ** 2 / (4 * 2 + 2 * 4)) ** 0.5)


def test_classical_scaling_of_euclidean_distances_is_their_principal_components() -> None:
    points = _points(10, 4, seed=6)
    centred = points - points.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False)[2]
    torch.testing.assert_close(classical_mds(_distances(points), k=3).coordinates.abs(), (centred @ axes[:3].T).abs())


@pytest.mark.parametrize("distances", [SQUARE, _not_euclidean(), _distances(_points(12, 5, seed=4))])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_smacof_misses_no_more_than_classical_scaling(distances: Tensor, k: int) -> None:
    distances = distances.double()
    classical, fitted = classical_mds(distances, k), smacof_mds(distances, k)
    assert _raw(fitted, distances) <= _raw(classical, distances) * (1 + 1e-9)
    if k < 3 and len(distances) > 4:
        assert _raw(fitted, distances) < 0.99 * _raw(classical, distances)
    assert fitted.negative_share == classical.negative_share
    drawn = _distances(fitted.coordinates)
    assert fitted.stress == pytest.approx(float((_raw(fitted, distances) / drawn.square().sum()).sqrt()))


def test_random_starts_get_smacof_out_of_a_local_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = _distances(_points(12, 6, seed=2))
    several = _raw(smacof_mds(distances), distances)
    monkeypatch.setattr("dynamo.analysis.mds._STARTS", 0)
    assert several < 0.98 * _raw(smacof_mds(distances), distances)


def test_same_seed_same_bits() -> None:
    distances = _not_euclidean()
    for scaling in SCALINGS:
        assert torch.equal(scaling(distances).coordinates, scaling(distances).coordinates)
    other = smacof_mds(distances, seed=1)
    assert other.stress == pytest.approx(smacof_mds(distances, seed=0).stress, rel=0.05)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_equal_models_lie_on_one_spot(scaling: Scaling) -> None:
    found = scaling(torch.zeros(5, 5))
    assert not found.coordinates.any()
    assert (found.stress, found.negative_share) == (0.0, 0.0)
    points = _points(4, 2, seed=9)[[0, 1, 1, 2, 3]]
    twins = scaling(_distances(points))
    assert float(_distances(twins.coordinates)[1, 2]) < 1e-4
    assert twins.stress < 1e-4


@pytest.mark.parametrize("scaling", SCALINGS)
def test_dimensions_that_are_not_needed_are_zero(scaling: Scaling) -> None:
    found = scaling(_distances(_points(4, 1, seed=2)), k=4)
    assert found.coordinates.shape == (4, 4)
    assert float(found.coordinates[:, 1:].abs().max()) < 1e-4
    two = scaling(torch.tensor([[0.0, 3.0], [3.0, 0.0]]))
    torch.testing.assert_close(two.coordinates, torch.tensor([[1.5, 0.0], [-1.5, 0.0]], dtype=torch.float64))
    assert scaling(torch.zeros(1, 1), k=1).coordinates.tolist() == [[0.0]]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_refuses_what_are_no_distances(scaling: Scaling) -> None:
    distances = _distances(_points(4, 2, seed=0))
    for bad, message in (
        (distances[:3], r"\[N, N\], got \[3, 4\]"),
        (torch.zeros(0, 0), r"\[N, N\]"),
        (torch.eye(4), "diagonal"),
        (distances.triu(), "symmetric"),
        (-distances, "not negative"),
        (distances * torch.nan, r"rows \[0, 1, 2, 3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            scaling(bad)
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"between 1 and the number of models, 4, got {k}"):
            scaling(distances, k)
