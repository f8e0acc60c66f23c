"""Procrustes undoes what it should and nothing more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynamo.analysis.alignment import procrustes_align


def _random(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("mirrored", [False, True])
def test_recovers_a_planted_motion(mirrored: bool) -> None:
    fixed = _random(9, 4, seed=0)
    rotation = torch.linalg.qr(_random(4, 4, seed=1))[0]
    if (torch.linalg.det(rotation) < 0) != mirrored:
        rotation = rotation * torch.tensor([-1.0, 1.0, 1.0, 1.0])
    moving = fixed @ rotation + 5.0
    before = moving.clone()
    found = procrustes_align(moving, fixed)
    torch.testing.assert_close(found.aligned, fixed)
    torch.testing.assert_close(found.residual, torch.zeros(9, dtype=torch.float64), atol=1e-12, rtol=0)
    assert found.scale == 1
    assert torch.equal(moving, before)


def test_scale_is_fitted_only_on_request() -> None:
    fixed = _random(6, 3, seed=2)
    moving = 0.25 * fixed @ torch.linalg.qr(_random(3, 3, seed=3))[0] - 1.0
    scaled = procrustes_align(moving, fixed, scale=True)
    assert scaled.scale == pytest.approx(4.0)
    torch.testing.assert_close(scaled.aligned, fixed)
    rigid = procrustes_align(moving, fixed)
    torch.testing.assert_close(torch.pdist(rigid.aligned), torch.pdist(moving))
    assert rigid.residual.mean() > 0.1


def test_no_other_rotation_is_better() -> None:
    fixed, moving = _random(8, 3, seed=4), _random(8, 3, seed=5)
    best = procrustes_align(moving, fixed).residual.square().sum()
    for seed in range(50):
        rotation = torch.linalg.qr(_random(3, 3, seed=100 + seed))[0]
        other = (moving - moving.mean(0)) @ rotation - (fixed - fixed.mean(0))
        assert other.square().sum() >= best


def test_one_moved_model_stands_out() -> None:
    fixed = _random(30, 3, seed=6)
    moving = fixed @ torch.linalg.qr(_random(3, 3, seed=7))[0]
    moving[11] += 4.0
    residual = procrustes_align(moving, fixed).residual
    assert residual.argmax() == 11
    assert residual[11] > 5 * residual[torch.arange(30) != 11].max()


@pytest.mark.parametrize("swapped", [False, True])
def test_other_width_is_padded_with_zeros(swapped: bool) -> None:
    flat = _random(7, 2, seed=8)
    deep = torch.nn.functional.pad(flat, (0, 3)) @ torch.linalg.qr(_random(5, 5, seed=9))[0]
    found = procrustes_align(deep, flat) if swapped else procrustes_align(flat, deep)
    assert found.aligned.shape == (7, 5)
    torch.testing.assert_close(found.residual, torch.zeros(7, dtype=torch.float64), atol=1e-12, rtol=0)


def test_degenerate_embeddings_have_an_answer() -> None:
    fixed = _random(5, 2, seed=10)
    found = procrustes_align(torch.zeros(5, 2), fixed, scale=True)
    torch.testing.assert_close(found.aligned, fixed.mean(0).expand(5, 2))


def test_refuses_other_members() -> None:
    with pytest.raises(ValueError, match="same N"):
        procrustes_align(torch.zeros(4, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="NaN"):
        procrustes_align(torch.full((4, 2), torch.nan), torch.zeros(4, 2))


def _turned(width: int, seed: int) -> Tensor:
    return torch.linalg.qr(_random(width, width, seed))[0]


@pytest.mark.parametrize("scale", [False, True])
def test_further_points_are_carried_along(scale: bool) -> None:
    fixed, further = _random(9, 4, seed=0), _random(3, 4, seed=1)
    turn, factor = _turned(4, seed=2), 0.5 if scale else 1.0
    found = procrustes_align(factor * fixed @ turn + 5.0, fixed, scale=scale)
    carried = found.carry(factor * further @ turn + 5.0, torch.zeros(3, 4))
    torch.testing.assert_close(carried, further)


def test_where_no_turn_is_determined_a_point_keeps_its_known_place() -> None:
    """Three models in four dimensions span a plane; of the other two directions nothing is known."""
    fixed, further = torch.cat([_random(3, 2, seed=0), torch.zeros(3, 2)], 1), _random(5, 4, seed=1)
    known = _random(5, 4, seed=2)
    turn = _turned(4, seed=3)
    carried = procrustes_align(fixed @ turn, fixed).carry(further @ turn, known)
    torch.testing.assert_close(carried[:, :2], further[:, :2])
    torch.testing.assert_close(carried[:, 2:], known[:, 2:])


def test_models_that_are_all_one_point_determine_no_turn() -> None:
    known = _random(2, 3, seed=0)
    found = procrustes_align(torch.ones(4, 3), torch.zeros(4, 3))
    torch.testing.assert_close(found.carry(_random(2, 3, seed=1), known), known)
