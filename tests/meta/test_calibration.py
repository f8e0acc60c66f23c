"""How far do the states of feature maps spread? For recurrent networks see test_task.py."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from dynamo.meta.calibration import spreads
from dynamo.population import Member, Population, ResidualBundle
from dynamo.types import TaskBatch


@pytest.fixture
def population() -> Population:
    bundle = ResidualBundle(3, [4, 6, 8, 10], [1, 1, 1, 1], 5)
    bundle.initialise(range(3))
    return Population([bundle], [[Member(f"r-{i}", "r", "images", i) for i in range(3)]])


@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_the_spread_of_maps_is_that_over_images_and_positions(
    population: Population, distance: Literal["l2", "l1"]
) -> None:
    ones = torch.ones(6, dtype=torch.int64)
    batch = {"images": TaskBatch(torch.randn(6, 3, 32, 32), ones, ones)}
    halves = iter([[torch.tensor([0, 2])], [torch.tensor([1])]])
    found = {
        int(n): (part, i)
        for part in spreads(population, batch, halves, 3, distance)
        for i, n in enumerate(part.members)
    }
    assert sorted(found) == [0, 1, 2]
    for n, (part, i) in found.items():
        stages, _ = population.module(f"r-{n}")(batch["images"].inputs)
        for k, maps in enumerate(stages):
            rows = maps.detach().movedim(1, -1).flatten(0, -2)
            gap = rows - rows.mean(0)
            torch.testing.assert_close(part.means[k][i], rows.mean(0), atol=1e-5, rtol=1e-4)
            expected = (gap.square() if distance == "l2" else gap.abs()).mean()
            torch.testing.assert_close(part.spreads[i, k], expected, atol=1e-6, rtol=1e-4)
