"""Newcomers where they were agree wholly, shuffled ones as often as chance has it."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
import torch
from torch import Tensor

from dynamo.analysis.leave_one_out import Fold, agreement, fold_of, fold_of_members, near, shared

GROUPS = ["a", "b", "a", "c", "b", "b"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(points: Tensor, seed: int = 9) -> Tensor:
    width = points.shape[1]
    return points @ torch.linalg.qr(random(width, width, seed=seed))[0] - 3.0


def test_newcomers_where_they_were_agree_wholly_however_the_map_is_turned() -> None:
    before, theta = random(4, 3, seed=1), random(6, 3, seed=2)
    moved = turned(torch.cat([before, theta]))
    fold = fold_of(before, moved[:4], theta, moved[4:], GROUPS)
    found = agreement([fold], neighbours=2, permutations=2_000)
    assert found.group == found.neighbour == 1
    assert found.neighbour_chance == pytest.approx(2 / 6)
    assert found.p_neighbour < 0.01
    assert found.group_chance < 0.75


def test_newcomers_at_places_of_their_own_agree_as_often_as_chance_has_it() -> None:
    """Many folds of unrelated places: shares near their chance levels, p anywhere but at its least."""
    folds = [
        Fold(random(5, 6, seed=2 * i).abs(), random(5, 6, seed=2 * i + 1).abs(), ["a", "a", "b", "b", "c", "c"])
        for i in range(40)
    ]
    found = agreement(folds, neighbours=2, permutations=500)
    assert found.group_chance == pytest.approx(1 / 3, abs=0.02)
    assert found.group == pytest.approx(1 / 3, abs=0.1)
    assert found.neighbour == pytest.approx(2 / 6, abs=0.07)
    assert min(found.p_group, found.p_neighbour) > 0.01


def test_by_chance_as_many_neighbours_are_shared_as_the_closed_form_says() -> None:
    """All 720 ways to name six members, counted one by one, give k / N."""
    before, after = random(1, 6, seed=3).abs(), random(1, 6, seed=4).abs()
    own = near(before, GROUPS, 2).members
    ways = [after[:, list(order)] for order in permutations(range(6))]
    counted = sum(int(shared(own, near(way, GROUPS, 2).members)) for way in ways) / len(ways) / 2
    assert counted == pytest.approx(2 / 6)
    found = agreement([Fold(before, after, GROUPS)], 2, permutations=1)
    assert found.neighbour_chance == pytest.approx(counted)


def test_p_is_that_of_all_shuffles() -> None:
    """One newcomer whose two nearest of four members are the same: one pair of six is as good, so p is near 1/6."""
    distances = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    found = agreement([Fold(distances, distances, ["a", "b", "c", "d"])], 2, permutations=20_000)
    assert found.p_neighbour == pytest.approx(1 / len(list(combinations(range(4), 2))), abs=0.01)
    assert found.p_group == pytest.approx(1 / 4, abs=0.01)


def test_the_nearest_group_has_the_least_mean_distance_not_the_nearest_member() -> None:
    distances = torch.tensor([[0.0, 4.0, 9.0, 4.0, 3.0, 5.0]])  # a: 4.5, b: 4, c: 4
    found = near(distances.index_fill(1, torch.tensor([3]), 4.5), GROUPS, 3)
    assert found.group.tolist() == [1]
    assert found.members.tolist() == [[0, 4, 1]]


def test_folds_count_by_their_networks() -> None:
    same = Fold(random(3, 5, seed=1).abs(), random(3, 5, seed=1).abs(), list("aabbc"))
    reverse = Fold(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]]), list("aabbc"))
    found = agreement([same, reverse], 1, permutations=10)
    assert (found.group, found.neighbour) == (3 / 4, 3 / 4)


def test_a_member_is_no_neighbour_of_its_own() -> None:
    theta = random(6, 2, seed=5)
    fold = fold_of_members(theta, turned(theta), GROUPS)
    assert fold.before.diagonal().isnan().all()
    found = agreement([fold], 2, permutations=50)
    assert (found.group, found.neighbour) == (1, 1)
    assert found.neighbour_chance == pytest.approx(2 / 5)
    members = near(fold.before, GROUPS, 2)
    assert not (members.members == torch.arange(6).unsqueeze(1)).any()
    assert members.group[3] != 2  # who is alone in its group has another one next to it


def test_the_same_seed_gives_the_same_p() -> None:
    fold = Fold(random(3, 6, seed=1).abs(), random(3, 6, seed=2).abs(), GROUPS)
    one, again, other = (agreement([fold], 2, 300, seed) for seed in (0, 0, 1))
    assert one == again
    assert one.group_chance != other.group_chance


def test_what_says_nothing_is_refused() -> None:
    fold = Fold(torch.rand(2, 4), torch.rand(2, 4), list("abcd"))
    with pytest.raises(ValueError, match="the 4 nearest of 4 members are asked for; with so many members up to 3"):
        agreement([fold], 4)
    with pytest.raises(ValueError, match="3 groups for 4 members"):
        near(fold.before, list("abc"), 1)
    for folds, count in (([], 1), ([fold], 0)):
        with pytest.raises(ValueError, match="at least one of each is needed"):
            agreement(folds, 1, count)
