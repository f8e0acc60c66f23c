"""Is batch k a pure function, does every item come once, and do ranks and lengths fall as promised?"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from datamodules.schedule import EvalSchedule, TrainSchedule, hold_out, subset_indices
from dynamo.types import Reader

ITEMS = 400
RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(1, 100, ITEMS)
LABELS = np.arange(ITEMS) % 4
READERS = [Reader("t", 1.0, 0), Reader("t", 0.5, 1), Reader("t", 0.25, 2, 5)]


def schedule(
    readers: list[Reader] = READERS, batch_size: int = 8, rank: int = 0, world: int = 1, seed: int = 3
) -> TrainSchedule:
    return TrainSchedule(LENGTHS, LABELS, readers, batch_size, seed, rank, world, window=5)


def test_a_fresh_schedule_gives_the_batches_of_a_running_one() -> None:
    running = schedule()
    batches = [running.batch(k) for k in range(60)]
    for k in (59, 17, 0, 33):
        fresh = schedule().batch(k)
        assert torch.equal(fresh.indices, batches[k].indices)
        assert (fresh.longest, fresh.step) == (batches[k].longest, k)


def test_every_item_once_per_permutation() -> None:
    whole = schedule([READERS[0]], batch_size=8)  # 400 items = 50 batches = 10 windows
    for epoch in range(2):
        seen = torch.cat([whole.batch(k).indices[0] for k in range(50 * epoch, 50 * (epoch + 1))])
        assert sorted(seen.tolist()) == list(range(ITEMS))


def test_a_reader_stays_in_its_subset_and_reads_all_of_it() -> None:
    quarter = subset_indices(LABELS, 0.25, 5)
    running = schedule()
    seen = torch.cat([running.batch(k).indices[2] for k in range(40)])
    assert set(seen.tolist()) == set(quarter.tolist())


def test_two_seeds_are_two_orders_and_one_seed_is_one() -> None:
    twins = schedule([Reader("t", 1.0, 4), Reader("t", 1.0, 4), Reader("t", 1.0, 5)]).batch(0).indices
    assert torch.equal(twins[0], twins[1])
    assert not torch.equal(twins[0], twins[2])
    assert not torch.equal(schedule(seed=4).batch(0).indices, schedule(seed=3).batch(0).indices)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_out_the_batch_of_a_single_process(world: int) -> None:
    alone = schedule(batch_size=8)
    ranks = [schedule(batch_size=8 // world, rank=rank, world=world) for rank in range(world)]
    for k in range(12):
        parts = [rank.batch(k).indices for rank in ranks]
        assert all(part.shape == (3, 8 // world) for part in parts)
        assert torch.equal(torch.cat(parts, dim=1), alone.batch(k).indices)


def test_ranks_are_disjoint_within_an_epoch() -> None:
    ranks = [schedule([READERS[0]], batch_size=4, rank=rank, world=2) for rank in range(2)]
    seen = [{int(i) for k in range(50) for i in rank.batch(k).indices[0]} for rank in ranks]
    assert not seen[0] & seen[1]
    assert len(seen[0] | seen[1]) == ITEMS


def test_longest_is_the_longest_and_lengths_within_a_step_are_close() -> None:
    running = schedule(READERS[:2])
    spans = []
    for k in range(40):
        lengths = LENGTHS[running.batch(k).indices.numpy()]
        assert running.batch(k).longest == lengths.max()
        spans.append(lengths.max() - lengths.min())
    assert np.mean(spans) < 60  # unsorted batches of 16 items span about 88 of the 99 steps


def test_a_window_never_exceeds_half_of_the_smallest_subset() -> None:
    tiny = TrainSchedule(LENGTHS, LABELS, [Reader("t", 0.02)], batch_size=4, window=50)
    assert tiny.window == 1
    assert len(set(tiny.batch(0).indices[0].tolist())) == 4
    assert schedule(READERS).window == 5


def test_visits_are_no_curriculum() -> None:
    """The sorted batches of a window are not visited from short to long, nor twice in the same order."""
    running = schedule([READERS[0]])
    orders = [np.argsort([running.batch(5 * w + s).longest for s in range(5)]).tolist() for w in range(6)]
    assert len({tuple(order) for order in orders}) > 2


def test_subsets_are_nested_and_balanced() -> None:
    sizes = {fraction: subset_indices(LABELS, fraction, 1) for fraction in (0.25, 0.5, 1.0)}
    assert set(sizes[0.25]) < set(sizes[0.5]) < set(sizes[1.0])
    for fraction, items in sizes.items():
        assert np.bincount(LABELS[items]).tolist() == [int(100 * fraction)] * 4
        assert np.array_equal(items, subset_indices(LABELS, fraction, 1))
    assert not np.array_equal(sizes[0.25], subset_indices(LABELS, 0.25, 2))


def test_items_of_no_known_class_have_subsets_too() -> None:
    found = subset_indices([-1] * 10, 0.3, 0)
    assert len(set(found.tolist())) == 3
    assert not np.array_equal(found, subset_indices([-1] * 10, 0.3, 1))


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_an_impossible_fraction_is_named(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"fraction must lie in \(0, 1\], got {fraction}"):
        subset_indices(LABELS, fraction, 0)


def test_a_fraction_that_loses_a_class_is_an_error() -> None:
    labels = np.array([0] * 400 + [1] * 4)
    with pytest.raises(ValueError, match=r"^fraction 0.01 of the 4 items of class 1 leaves none: take at least 0.25"):
        subset_indices(labels, 0.01, 0)
    with pytest.raises(ValueError, match=r"^test_fraction 0.01 of the 4 items of class 1 leaves none"):
        hold_out(labels, 0.01, 0, "item", "test_fraction")
    with pytest.raises(ValueError, match=r"^val_fraction 0.1 of the 3 items leaves none: take at least 0.33"):
        hold_out([-1] * 3, 0.1, 0, "item")


def test_no_reader_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one reader"):
        schedule([])


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_evaluation_covers_every_item_once_over_all_ranks(world: int) -> None:
    ranks = [EvalSchedule(LENGTHS, 32, "val", rank, world) for rank in range(world)]
    batches = [rank.batch(k) for rank in ranks for k in range(len(rank))]
    assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == list(range(ITEMS))
    assert all(batch.longest == LENGTHS[batch.indices].max() for batch in batches)
    assert {(batch.split, batch.step) for batch in batches} == {("val", -1)}


def test_evaluation_can_cover_chosen_items_alone() -> None:
    chosen = np.array([300, 7, 5, 250])
    ranks = [EvalSchedule(LENGTHS, 1, "test", rank, 2, chosen) for rank in range(2)]
    seen = [int(rank.batch(k).indices) for rank in ranks for k in range(len(rank))]
    assert sorted(seen) == sorted(chosen.tolist())


def test_evaluation_gives_every_rank_a_batch() -> None:
    assert [len(EvalSchedule(LENGTHS[:5], 64, "val", rank, 4)) for rank in range(4)] == [2, 1, 1, 1]
    with pytest.raises(ValueError, match="split 'test' has 3 items for 4 processes"):
        EvalSchedule(LENGTHS[:3], 64, "test", 0, 4)


def test_a_step_costs_well_under_two_milliseconds() -> None:
    lengths = RNG.integers(1, 256, 22_500)
    running = TrainSchedule(lengths, np.arange(22_500) % 2, [Reader("t", 1.0, n) for n in range(20)], 64)
    running.batch(0)
    start = time.process_time()
    for k in range(500):
        running.batch(k)
    assert (time.process_time() - start) / 500 < 2e-3
