"""A planted line has the dimension, length, direction and slow modes that it was planted with."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dynamo.analysis.line_attractor import angle, line_attractor
from dynamo.analysis.linearisation import Linearisation, linearise


def _linearised(states: Tensor, axis: Tensor, slow: float = 0.98, fast: float = 0.3) -> Linearisation:
    """Of a map that keeps `slow` of what lies along the axis and `fast` of everything across it."""
    along = torch.outer(axis, axis)
    matrix = slow * along + fast * (torch.eye(len(axis)).double() - along)
    return linearise(lambda h: h @ matrix.T, states)


AXIS = torch.tensor([2.0, -1.0, 2.0]).double() / 3
ACROSS = torch.tensor([1.0, 2.0, 0.0]).double() / math.sqrt(5)
PLACES = torch.tensor([-3.0, -1.0, 0.0, 1.0, 5.0]).double()


def test_a_straight_line() -> None:
    states = 7.0 + torch.outer(PLACES, AXIS)
    readout = -4.0 * AXIS + 3.0 * ACROSS
    found = line_attractor(states, _linearised(states, AXIS), readout)
    assert found.count == 5
    assert found.dimension == pytest.approx(1)
    assert found.straightness == pytest.approx(1)
    assert found.length == pytest.approx(8)
    torch.testing.assert_close(found.direction, -AXIS)  # to where the readout grows
    torch.testing.assert_close(found.centre, 7.0 + 0.4 * AXIS)
    assert found.slow_share == pytest.approx(1 / 3)  # 0.98 lasts 49 steps, 0.3 less than one
    assert found.slowest == pytest.approx(-1 / math.log(0.98))
    assert found.readout_alignment == pytest.approx(4 / 5)
    assert found.mode_alignment == pytest.approx(1)
    assert found.selection_alignment == pytest.approx(4 / 5)


def test_the_slow_modes_count_against_the_threshold_and_their_alignment_is_a_mean_of_cosines() -> None:
    states = torch.outer(PLACES, AXIS)
    oblique = (AXIS + ACROSS) / math.sqrt(2)
    linear = _linearised(states, oblique, slow=0.95, fast=0.91)  # 19.5 and 10.6 steps
    assert line_attractor(states, linear, AXIS).slow_share == pytest.approx(1)
    assert line_attractor(states, linear, AXIS, threshold=15).slow_share == pytest.approx(1 / 3)
    assert line_attractor(states, linear, AXIS, threshold=20).slow_share == 0
    assert line_attractor(states, linear, AXIS).mode_alignment == pytest.approx(math.sqrt(0.5))


def test_left_and_right_modes_are_not_mixed_up() -> None:
    states = torch.outer(PLACES, torch.tensor([1.0, 0.0]).double())
    shear = torch.tensor([[0.98, 1.0], [0.0, 0.5]]).double()
    found = line_attractor(states, linearise(lambda h: h @ shear.T, states), torch.tensor([1.0, 0.0]))
    left = torch.tensor([0.48, 1.0]).double()
    assert found.mode_alignment == pytest.approx(1)
    assert found.selection_alignment == pytest.approx(float(left[0] / left.norm()))


def test_a_line_in_the_plane_of_a_slow_rotation_is_aligned_with_it() -> None:
    """An oblique spiral: its eigenvector's real and imaginary part are neither of one length nor at right angles."""
    basis = torch.tensor([[1.0, 0.4, 0.2], [0.0, 3.0, -0.5], [0.0, 0.0, 1.0]]).double()
    turn = 0.9 * torch.tensor([[math.cos(0.3), -math.sin(0.3), 0], [math.sin(0.3), math.cos(0.3), 0], [0, 0, 0.1]])
    matrix = basis @ turn.double() @ basis.inverse()
    for place, expected in (((1.0, 0, 0), 1.0), ((0.4, 2.0, 0), 1.0), ((0.0, 0, 2), 0.0)):
        states = torch.outer(PLACES, torch.tensor(place).double())
        found = line_attractor(states, linearise(lambda h: h @ matrix.T, states), torch.ones(3))
        assert found.mode_alignment == pytest.approx(expected, abs=1e-9)
    diagonal = torch.tensor([1.0, 0.0, 1.0]).double()
    states = torch.outer(PLACES, diagonal)
    found = line_attractor(states, linearise(lambda h: h @ matrix.T, states), diagonal)
    assert found.mode_alignment == pytest.approx(math.sqrt(0.5))
    # The left eigenvectors span what is at right angles to the third column of the basis.
    third = basis[:, 2] / basis[:, 2].norm()
    across = float(diagonal @ third) / math.sqrt(2)
    assert found.selection_alignment == pytest.approx(math.sqrt(1 - across**2))


def test_modes_that_grow_count_as_slow() -> None:
    states = torch.outer(PLACES, AXIS)
    found = line_attractor(states, _linearised(states, AXIS, slow=1.2), AXIS, threshold=1e9)
    assert found.slow_share == pytest.approx(1 / 3)
    assert found.slowest == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_that_differ_in_the_last_bit_are_one(dtype: torch.dtype) -> None:
    states = torch.full((4, 3), 1.3, dtype=dtype)
    states[1, 0] *= 1 + torch.finfo(dtype).eps
    assert len(states.unique()) == 2
    found = line_attractor(states, _linearised(states.double(), AXIS), AXIS)
    assert (found.dimension, found.length) == (0, 0)


def test_a_cross_has_the_participation_ratio_of_its_arms() -> None:
    arms = torch.tensor([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]]).double()  # variances 4 and 1
    found = line_attractor(arms, _linearised(arms, AXIS), torch.tensor([1.0, 0.0, 0.0]))
    assert found.dimension == pytest.approx(25 / 17)
    assert found.straightness == pytest.approx(4 / 5)
    assert found.length == pytest.approx(4)


def test_moving_turning_and_scaling_the_states() -> None:
    states = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    readout = torch.tensor([1.0, 2.0, -1.0]).double()
    one = line_attractor(states, _linearised(states, AXIS), readout)
    other = line_attractor(5 * states @ turn.T + 3, _linearised(states, turn @ AXIS), turn @ readout)
    assert other.dimension == pytest.approx(one.dimension)
    assert other.straightness == pytest.approx(one.straightness)
    assert other.length == pytest.approx(5 * one.length)
    torch.testing.assert_close(other.direction, turn @ one.direction)
    for name in ("readout_alignment", "mode_alignment", "selection_alignment"):
        assert getattr(other, name) == pytest.approx(getattr(one, name))


@pytest.mark.parametrize("count", [1, 4])
def test_a_single_point_is_no_line_but_has_the_direction_of_its_slow_mode(count: int) -> None:
    states = torch.full((count, 3), 0.1).double()
    found = line_attractor(states, _linearised(states, AXIS), -AXIS)
    assert (found.count, found.dimension, found.length, found.straightness) == (count, 0, 0, 0)
    torch.testing.assert_close(found.direction, -AXIS)


def test_angles() -> None:
    east = torch.tensor([2.0, 0.0])
    for degrees, expected in [(0, 0), (30, 30), (90, 90), (150, 30), (180, 0), (300, 60)]:
        radians = math.radians(degrees)
        turned = torch.tensor([math.cos(radians), math.sin(radians)], dtype=torch.float64)
        assert angle(east, 0.1 * turned) == pytest.approx(expected, abs=1e-10)
    tiny = torch.tensor([1.0, 1e-9], dtype=torch.float64)
    assert angle(torch.tensor([1.0, 0.0]), tiny) == pytest.approx(math.degrees(1e-9), rel=1e-6)  # arccos would say 0


def test_refuses_what_is_no_line_attractor() -> None:
    states = torch.outer(PLACES, AXIS)
    linear = _linearised(states, AXIS)
    with pytest.raises(ValueError, match="linearise just these states"):
        line_attractor(states[:3], linear, AXIS)
    with pytest.raises(ValueError, match=r"readout must be \[3\]"):
        line_attractor(states, linear, AXIS[:2])
    with pytest.raises(ValueError, match="not zero"):
        line_attractor(states, linear, 0 * AXIS)
    with pytest.raises(ValueError, match="finite"):
        line_attractor(states * torch.nan, linear, AXIS)
    with pytest.raises(ValueError, match=r"\[U, S\]"):
        line_attractor(states[0], linear, AXIS)
    with pytest.raises(ValueError, match="one length"):
        angle(AXIS, AXIS[:2])
    with pytest.raises(ValueError, match="not zero"):
        angle(AXIS, 0 * AXIS)
