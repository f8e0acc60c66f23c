"""Planted quadratics and plateaus: is the top found, and never left?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynamo.analysis.local_search import directions, local_search


def hill(top: Tensor) -> object:
    return lambda points: -(points - top).square().sum(1)


@pytest.mark.parametrize("scale", [0.5, torch.full((3,), 0.5), 0.5 * torch.eye(3), torch.randn(5, 3)])
def test_a_planted_top_is_found(scale: Tensor | float) -> None:
    top, start = torch.tensor([1.0, -0.5, 0.25]), torch.zeros(3)
    found = local_search(hill(top), start, scale, rounds=30)  # type: ignore[arg-type]
    assert float((found.point - top).norm()) < 0.05
    assert found.score == pytest.approx(-float((found.point - top).square().sum()))
    assert found.start_score == pytest.approx(-float(top.square().sum()))
    assert torch.equal(found.start, start)
    assert found.scores.shape == (30,)
    assert (found.scores.diff() >= 0).all()
    assert float(found.scores[-1]) == found.score


def test_steps_follow_the_basis() -> None:
    seen: list[Tensor] = []

    def flat(points: Tensor) -> Tensor:
        seen.append(points)
        return torch.zeros(len(points))

    basis, start = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.1]]), torch.tensor([1.0, 1.0, 1.0])
    local_search(flat, start, basis, rounds=1, candidates=2000)
    steps = seen[1] - start
    wanted = basis.T @ basis
    torch.testing.assert_close(steps.T @ steps / len(steps), wanted, rtol=0.15, atol=0.01)
    torch.testing.assert_close(steps[0::2], -steps[1::2], rtol=0, atol=1e-5)  # in opposite pairs


def test_on_a_plateau_it_stays_and_the_steps_shrink() -> None:
    seen: list[Tensor] = []

    def flat(points: Tensor) -> Tensor:
        seen.append(points)
        return torch.full((len(points),), 0.8)

    start = torch.tensor([2.0, -1.0])
    found = local_search(flat, start, 1.0, rounds=6, candidates=501, shrink=0.5)
    assert torch.equal(found.point, start)
    assert found.scores.tolist() == pytest.approx([0.8] * 6)
    assert [len(points) for points in seen] == [1] + [501] * 6
    sizes = [float((points - start).square().mean().sqrt()) for points in seen[1:]]
    assert sizes == pytest.approx([0.5**k for k in range(6)], rel=0.15)


def test_it_never_ends_below_the_start() -> None:
    top = torch.tensor([1.0, 2.0])
    found = local_search(hill(top), top, 1.0)  # type: ignore[arg-type]
    assert torch.equal(found.point, top)
    assert found.score == found.start_score == 0.0


def test_nan_is_the_worst() -> None:
    def cliff(points: Tensor) -> Tensor:
        return torch.where(points[:, 0] > 0.3, torch.nan, points[:, 0])

    found = local_search(cliff, torch.zeros(2), 1.0, rounds=20)
    assert 0.2 < found.score <= 0.3
    with pytest.raises(ValueError, match="no score"):
        local_search(cliff, torch.ones(2), 1.0)


def test_same_seed_same_bits_and_the_state_of_torch_is_left_alone() -> None:
    top, before = torch.tensor([1.0, 2.0, 3.0]), torch.get_rng_state()
    one, other, third = (local_search(hill(top), torch.zeros(3), 1.0, seed=seed) for seed in (4, 4, 5))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.point, other.point)
    assert torch.equal(one.scores, other.scores)
    assert not torch.equal(one.point, third.point)


def test_no_rounds_is_the_start() -> None:
    found = local_search(hill(torch.ones(2)), torch.zeros(2), 1.0, rounds=0)  # type: ignore[arg-type]
    assert found.point.tolist() == [0.0, 0.0]
    assert found.scores.shape == (0,)


def test_directions_have_the_covariance_of_the_models() -> None:
    theta = torch.randn(7, 3).mul(torch.tensor([2.0, 1.0, 0.1])) + 5
    basis = directions(theta)
    torch.testing.assert_close(basis.T @ basis, torch.cov(theta.double().T, correction=0))
    torch.testing.assert_close(basis @ basis.T, torch.diag(basis.square().sum(1)))  # orthogonal rows
    few = directions(torch.randn(2, 4))
    assert few.shape == (4, 4)
    assert few[1:].abs().max() < 1e-6


def test_wrong_input() -> None:
    ok = hill(torch.zeros(2))
    for bad in ({"rounds": -1}, {"candidates": 0}, {"shrink": 0.0}, {"shrink": 1.1}):
        with pytest.raises(ValueError, match="must be at least 0"):
            local_search(ok, torch.zeros(2), 1.0, **bad)  # type: ignore[arg-type]
    for scale in (torch.ones(3), torch.ones(2, 3), torch.ones(1, 1, 2), float("nan")):
        with pytest.raises(ValueError, match="scale must be"):
            local_search(ok, torch.zeros(2), scale)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one point"):
        local_search(ok, torch.zeros(1, 2), 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one number per point"):
        local_search(lambda points: points, torch.zeros(2), 1.0)
