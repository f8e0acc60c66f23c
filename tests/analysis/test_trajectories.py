"""Spread across seeds, epoch by epoch: closed forms."""

import pytest
import torch

from dynamo.analysis import spread_over_time


def test_spread_is_the_mean_distance_between_the_networks_of_an_epoch() -> None:
    # an equilateral triangle whose side shrinks from 4 to 1 while all of it drifts
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    sides = (4.0, 3.0, 2.0, 1.0)
    points = torch.cat([triangle * side + 10 * number for number, side in enumerate(sides)])
    found = spread_over_time(points, [epoch for epoch in (1, 2, 3, 4) for _ in range(3)])
    assert found.epochs == (1, 2, 3, 4)
    torch.testing.assert_close(found.spread, torch.tensor(sides, dtype=torch.float64), rtol=1e-5, atol=0)
    assert (found.early, found.late) == pytest.approx((4.0, 1.0), rel=1e-5)


def test_the_order_of_the_points_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    points, epochs = torch.randn(12, 3, generator=generator), torch.arange(12) % 4
    order = torch.randperm(12, generator=generator)
    straight = spread_over_time(points, epochs.tolist())
    mixed = spread_over_time(points[order], epochs[order].tolist())
    torch.testing.assert_close(straight.spread, mixed.spread)


def test_an_epoch_with_one_network_is_refused() -> None:
    with pytest.raises(ValueError, match="Epoch 2 has 1 network"):
        spread_over_time(torch.zeros(3, 2), [1, 1, 2])
    with pytest.raises(ValueError, match="3 points and 2 epochs"):
        spread_over_time(torch.zeros(3, 2), [1, 1])
