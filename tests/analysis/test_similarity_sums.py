"""Any split over batches, blocks and processes gives the same distances; the bootstrap's error bars are right."""

from __future__ import annotations

from itertools import pairwise as neighbours
from typing import get_args

import pytest
import torch
from torch import Tensor

from dynamo.analysis.similarity import Kind, pairwise
from dynamo.analysis.similarity_measures import matrix_of
from dynamo.analysis.similarity_sums import SimilaritySums

KINDS: tuple[Kind, ...] = get_args(Kind)
WIDTHS = (6, 3, 8)


def _states(samples: int, seed: int, offset: float = 0.0, noise: float = 0.5) -> list[Tensor]:
    """What three models make of the same inputs; the models themselves do not depend on the seed."""
    fixed, drawn = torch.Generator().manual_seed(100), torch.Generator().manual_seed(seed)
    maps = [torch.randn(4, width, generator=fixed, dtype=torch.float64) for width in WIDTHS]
    inputs = torch.randn(samples, 4, generator=drawn, dtype=torch.float64)
    return [
        inputs @ m + noise * torch.randn(samples, m.shape[1], generator=drawn, dtype=torch.float64) + offset * (n + 1)
        for n, m in enumerate(maps)
    ]


def _part(states: list[Tensor], start: int, stop: int) -> list[Tensor]:
    return [x[start:stop] for x in states]


def _sums(*parts: list[Tensor], blocks: int = 1) -> SimilaritySums:
    sums = SimilaritySums(WIDTHS, blocks)
    for number, part in enumerate(parts):
        sums.update(part, number % blocks)
    return sums


def _assert_same(found: SimilaritySums, expected: SimilaritySums, tolerance: float = 1e-11) -> None:
    for kind in KINDS:
        torch.testing.assert_close(found.distances(kind), expected.distances(kind), atol=tolerance, rtol=0)


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_batches_of_any_size_give_what_all_at_once_does(blocks: int, offset: float) -> None:
    states = _states(2_500, seed=0, offset=offset)  # more than are taken in at once
    cuts = [0, 1, 40, 40, 1_100, 2_499, 2_500]
    found = _sums(*(_part(states, a, b) for a, b in neighbours(cuts)), blocks=blocks)
    for kind in KINDS:
        expected = pairwise(_states(2_500, seed=0), kind)  # without the offset, which is to cost no digits
        torch.testing.assert_close(found.distances(kind), expected, atol=1e-9, rtol=0)
        assert torch.equal(found.distances(kind), found.distances(kind).T)
        assert not found.distances(kind).diagonal().any()


def test_batches_that_lie_far_apart_are_joined_rightly() -> None:
    states = [torch.cat(parts) for parts in zip(_states(50, 0), _states(30, 1, offset=20.0), strict=True)]
    for kind in KINDS:
        found = _sums(_part(states, 0, 50), _part(states, 50, 80), blocks=2).distances(kind)
        torch.testing.assert_close(found, _sums(states).distances(kind), atol=1e-11, rtol=0)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_processes_merge_in_any_order_however_unequal(offset: float) -> None:
    states = _states(600, seed=0, offset=offset)
    shards = [
        _sums(_part(states, 0, 7), _part(states, 7, 300), blocks=2),
        _sums(blocks=2),
        _sums(_part(states, 300, 590), blocks=2),
        _sums([x[:0] for x in states], _part(states, 590, 600), blocks=2),
    ]
    whole = _sums(states)
    rows = torch.stack([shard.as_tensor() for shard in shards])  # equally long, the empty one too
    tolerance = 1e-9 if offset else 1e-11
    _assert_same(SimilaritySums.from_tensor(rows), whole, tolerance)
    _assert_same(SimilaritySums.from_tensor(rows.flip(0)), whole, tolerance)
    assert torch.equal(SimilaritySums.from_tensor(rows[1:3]).as_tensor(), shards[2].as_tensor())
    assert torch.equal(SimilaritySums.from_tensor(rows[2]).as_tensor(), rows[2])


def test_merge_with_shards_of_different_places() -> None:
    near, far = _states(50, seed=0), _states(70, seed=1, offset=30.0)
    total = _sums(near)
    total.merge(_sums(far))
    _assert_same(total, _sums([torch.cat(parts) for parts in zip(near, far, strict=True)]))


def test_a_merged_or_restored_one_takes_more_and_shares_no_memory() -> None:
    states = _states(400, seed=0)
    first = _sums(_part(states, 0, 100))
    row = first.as_tensor()
    before = row.clone()
    restored, merged = SimilaritySums.from_tensor(row), SimilaritySums(WIDTHS)
    merged.merge(first)
    for sums in (restored, merged):
        sums.update(_part(states, 100, 400))
        _assert_same(sums, _sums(states))
    assert torch.equal(row, before)
    assert torch.equal(first.as_tensor(), before)


def test_nothing_grows_with_the_samples() -> None:
    length = len(SimilaritySums(WIDTHS, blocks=2).as_tensor())
    assert len(_sums(*(_states(300, seed) for seed in range(5)), blocks=2).as_tensor()) == length
    assert length < 2 * (sum(WIDTHS) + 5) ** 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_is_drawn_twice_counts_twice(kind: Kind) -> None:
    parts = [_states(samples, seed) for seed, samples in enumerate((40, 60, 50))]
    sums = _sums(*parts, blocks=3)
    repeated = _sums(parts[0], parts[2], parts[0], parts[0])
    weights = torch.tensor([3.0, 0.0, 1.0])
    found, expected = sums.moments(weights), repeated.moments(torch.ones(1))
    assert (found.samples, found.distinct) == (170, 90)
    torch.testing.assert_close(found.block(0, 2), expected.block(0, 2))
    torch.testing.assert_close(matrix_of(found, kind, 0.99), matrix_of(expected, kind, 0.99))


@pytest.mark.parametrize("kind", ["svcca", "cka"])
def test_bootstrap_errors_are_the_spread_between_fresh_draws(kind: Kind) -> None:
    blocks, samples = 16, 60
    fresh = torch.stack([pairwise(_states(blocks * samples, seed), kind) for seed in range(100, 140)])
    true_std, truth = fresh.std(0), fresh.mean(0)
    boots = []
    for seed in range(5):
        parts = zip(*(x.split(samples) for x in _states(blocks * samples, seed)), strict=True)
        boots.append(_sums(*map(list, parts), blocks=blocks).bootstrap(kind, replicates=30, seed=seed))
    i, j = torch.triu_indices(3, 3, offset=1)
    ratio = (torch.stack([boot.std for boot in boots]).mean(0) / true_std)[i, j]
    assert ((ratio > 0.65) & (ratio < 1.35)).all(), ratio
    inside = torch.stack([(boot.lower <= truth) & (truth <= boot.upper) for boot in boots])[:, i, j]
    assert inside.float().mean() > 0.75
    for boot in boots:
        assert (boot.lower <= boot.distances).all()
        assert (boot.distances <= boot.upper).all()
        assert all(torch.equal(part, part.T) and not part.diagonal().any() for part in boot)


def test_bootstrap_is_a_function_of_the_seed_and_skips_empty_blocks() -> None:
    parts = [_states(40, seed) for seed in range(6)]
    sums = _sums(*parts, blocks=9)  # three stay empty
    first = sums.bootstrap(replicates=20, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, sums.bootstrap(replicates=20, seed=1), strict=True))
    assert not torch.equal(first.std, sums.bootstrap(replicates=20, seed=2).std)
    full = _sums(*parts, blocks=6).bootstrap(replicates=20, seed=1)
    torch.testing.assert_close(first.std, full.std)
    torch.testing.assert_close(first.distances, pairwise([torch.cat(x) for x in zip(*parts, strict=True)]))


def test_a_replicate_with_too_few_samples_says_what_it_held() -> None:
    sums = _sums(*(_states(6, seed) for seed in range(4)), blocks=4)  # 24 samples do for 14 directions, 12 do not
    assert sums.distances(variance=1.0).shape == (3, 3)
    with pytest.raises(ValueError, match=r"(?s)held only [12] of the 4 blocks .* room for \d+.*into more blocks, or"):
        sums.bootstrap(variance=1.0)


def test_wrong_input_is_refused_before_anything_is_counted() -> None:
    states = _states(20, seed=0)
    sums = _sums(states, blocks=2)
    before = sums.as_tensor()
    with pytest.raises(ValueError, match=r"H = \[6, 3, 8\], equally many, got \[\[20, 6\], \[20, 3\]\]"):
        sums.update(states[:2])
    with pytest.raises(ValueError, match="equally many"):
        sums.update([states[0], states[1][:5], states[2]])
    with pytest.raises(ValueError, match="block 2 is not one of the 2"):
        sums.update(states, 2)
    broken = states[1].clone()
    broken[-1, 0] = -torch.inf
    with pytest.raises(ValueError, match=r"models \[1\] hold NaN"):
        sums.update([states[0], broken, states[2]])
    with pytest.raises(ValueError, match="cannot be merged"):
        sums.merge(_sums(states))
    assert torch.equal(sums.as_tensor(), before)
    with pytest.raises(ValueError, match="at least 2 samples, got 0"):
        SimilaritySums(WIDTHS).distances()
    with pytest.raises(ValueError, match="at least 2 replicates of at least 2 blocks with samples, got 200 of 1"):
        _sums(_states(100, seed=0), blocks=2).bootstrap()
    with pytest.raises(ValueError, match="1 feature"):
        SimilaritySums([])
    with pytest.raises(ValueError, match="float64"):
        SimilaritySums.from_tensor(before.float())
    with pytest.raises(ValueError, match="does not fit the layout"):
        SimilaritySums.from_tensor(before[:-1])
