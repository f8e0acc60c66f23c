"""Samples are the same of all networks, one a step or a position, and as many as was said."""

from __future__ import annotations

from itertools import pairwise as neighbours

import pytest
import torch
from torch import Tensor

from dynamo.analysis.similarity import pairwise
from dynamo.analysis.states import POSITIONS, emulator_states, population_states, state_sizes
from dynamo.meta.residual import ResidualMetaModel
from dynamo.population import Member, Population, RecurrentBundle
from dynamo.population.base import Bundle
from dynamo.population.residual import ResidualBundle
from dynamo.types import TaskBatch

WIDTHS, DEPTHS = [4, 6, 8, 10], [1, 1, 1, 1]


def population(*bundles: Bundle, tasks: str = "tt") -> Population:
    """Members a-0, a-1, ... of the first bundle, b-0, ... of the second."""
    parts = zip("ab", bundles, tasks, strict=False)
    return Population(bundles, [[Member(f"{name}-{i}", name, task) for i in range(b.count)] for name, b, task in parts])


def residual(count: int, widths: list[int] = WIDTHS) -> ResidualBundle:
    bundle = ResidualBundle(count, widths, DEPTHS, 3)
    bundle.initialise(range(count))
    return bundle


def recurrent(count: int, hidden_size: int = 5) -> RecurrentBundle:
    bundle = RecurrentBundle(count, "gru", 9, 3, hidden_size, 2, embedding_scale=1.0)
    bundle.initialise(range(count))
    return bundle


def images(count: int) -> TaskBatch:
    inputs = torch.randn(count, 3, 32, 32)
    return TaskBatch(inputs, torch.zeros(count, dtype=torch.int64), torch.ones(count, dtype=torch.int64))


def matches(samples: Tensor, maps: Tensor) -> Tensor:
    """Which samples `[k, channels]` could come from which positions of a map `[channels, h, w]`? Bool `[k, h * w]`."""
    rows = maps.flatten(1).T.double()
    return torch.cdist(samples.double(), rows, compute_mode="donot_use_mm_for_euclid_dist") < 1e-5


def test_maps_give_a_sample_a_position_the_same_of_all_networks_and_images() -> None:
    bundles, batch = (residual(2), residual(1, [5, 6, 7, 9])), images(3)
    states = population_states(population(*bundles), {"t": batch})
    theta = torch.randn(2, 3)
    network = ResidualMetaModel(0, {"t": 3}, 3, [6, 7, 8, 9], DEPTHS)
    emulated = emulator_states(network, theta, {"t": batch}, at_once=1)
    assert [[one.shape[1] for one in stage] for stage in states] == [[4, 4, 5], [6, 6, 6], [8, 8, 7], [10, 10, 9]]
    assert state_sizes(population(*bundles)) == [[4, 4, 5], [6, 6, 6], [8, 8, 7], [10, 10, 9]]
    assert [[one.shape[1] for one in stage] for stage in emulated] == [[6, 6], [7, 7], [8, 8], [9, 9]]
    with torch.no_grad():
        trajectories = [bundle(batch) for bundle in bundles]
        maps = [[m for t in trajectories for m in t.hidden[stage]] for stage in range(4)]
        meta = [list(stage) for stage in network(theta, batch.inputs, "t").hidden]
    for stage, positions in enumerate([1024, 256, 64, 16]):
        kept = min(positions, POSITIONS)
        could = torch.ones(kept, positions, dtype=torch.bool)
        for own, seen in zip([*states[stage], *emulated[stage]], [*maps[stage], *meta[stage]], strict=True):
            assert len(own) == 3 * kept
            for image in range(3):
                could &= matches(own[kept * image : kept * (image + 1)], seen[image])
        assert torch.equal(could.sum(1), torch.ones(kept, dtype=torch.int64))  # one place in all maps
        chosen = could.int().argmax(1).tolist()
        assert chosen == sorted(set(chosen))
        if kept < positions:  # neither a corner of the map nor a lattice
            assert max(chosen) > 0.8 * positions
            assert len({b - a for a, b in neighbours(chosen)}) > 3


def test_channels_are_compared_over_positions() -> None:
    batch, bundle = images(4), residual(2)
    order = torch.tensor([2, 0, 3, 1])
    for name, stacked in bundle.network.state_dict().items():
        stacked[1] = stacked[0]
        if name.startswith(("stem.", "norm.")):
            stacked[1] = stacked[0][order]  # the same network up to the order of the first channels
        if name == "stages.0.0.conv1.weight":
            stacked[1] = stacked[0][:, order]
        if name.startswith("stages.0.0.norm2.weight"):
            stacked.zero_()  # the block adds nothing: the first stage shows the stem
    first, second = population_states(population(bundle), {"t": batch})[0]
    torch.testing.assert_close(second, first[:, order])
    distances = pairwise([first, second, first.roll(1, dims=0)], "cka")
    assert float(distances[0, 1]) == pytest.approx(0, abs=1e-6)
    assert float(distances[0, 2]) > 0.5  # the same maps elsewhere in the image are something else


def test_batches_of_any_size_give_the_same_samples() -> None:
    batch, three = images(5), population(residual(3))
    parts = [TaskBatch(*(values[part] for values in batch)) for part in (slice(0, 2), slice(2, 5))]
    whole = population_states(three, {"t": batch})
    apart = [population_states(three, {"t": part}) for part in parts]
    for stage, states in enumerate(whole):
        for n, own in enumerate(states):
            torch.testing.assert_close(own, torch.cat([part[stage][n] for part in apart]), atol=1e-5, rtol=1e-4)


def test_recurrent_networks_have_one_stage_of_real_steps() -> None:
    tokens, lengths = torch.randint(1, 9, (4, 6)), torch.tensor([6, 1, 3, 2])
    one = TaskBatch(tokens, torch.zeros(4, dtype=torch.int64), lengths)
    other = TaskBatch(tokens[:2, :2], torch.zeros(2, dtype=torch.int64), torch.tensor([2, 1]))
    bundles = (recurrent(2), recurrent(1, 7))
    (states,) = population_states(population(*bundles), {"t": one, "u": other}, burn_in=1)
    with torch.no_grad():
        for n, hidden in enumerate([*bundles[0](one).hidden[0], *bundles[1](one).hidden[0]]):
            rows = [hidden[b, t] for b, length in enumerate([6, 1, 3, 2]) for t in range(min(1, length - 1), length)]
            assert torch.equal(states[n][: len(rows)], torch.stack(rows))
            assert len(states[n]) == len(rows) + 2
    assert state_sizes(population(*bundles)) == [[5, 5, 7]]


def test_other_stages_are_one_clear_error() -> None:
    with pytest.raises(ValueError, match="the numbers of stages differ: a-0 4, b-0 1"):
        state_sizes(population(residual(1), recurrent(2), tasks="tu"))
