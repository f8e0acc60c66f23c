"""The silhouette is scikit-learn's; the permutation test is exact, uniform under the null, and has power."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score
from torch import Tensor

from dynamo.analysis.clustering import (
    distances_to,
    distances_to_groups,
    euclidean_distances,
    group_distances,
    least_p,
    permutation_test,
    silhouette,
)


def _random(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("groups", ["aaaabbbbcccc", "abcabcabcabc", "aaaaaaaaaaab", "abbbbbcccccd"])
def test_silhouette_is_that_of_scikit_learn(groups: str) -> None:
    points = _random(12, 4, seed=0)
    expected = silhouette_score(points.double().numpy(), list(groups))
    assert silhouette(points, list(groups)) == pytest.approx(expected, abs=1e-12)


def test_silhouette_of_distances_is_that_of_the_points() -> None:
    points, groups = _random(10, 3, seed=1), list("aaabbbbccc")
    distances = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = silhouette(points, groups)
    assert silhouette(distances, groups, metric="precomputed") == pytest.approx(expected, abs=1e-12)
    by_points = permutation_test(points, groups, permutations=50)
    assert permutation_test(distances, groups, permutations=50, metric="precomputed") == pytest.approx(by_points)


def test_silhouette_of_a_line_by_hand() -> None:
    # 0, 1 | 4: a = 1, 1; b = 4, 3; the lone third scores 0
    assert silhouette(torch.tensor([[0.0], [1.0], [4.0]]), ["x", "x", "y"]) == pytest.approx((3 / 4 + 2 / 3) / 3)


def test_silhouette_of_equal_points_is_zero() -> None:
    assert silhouette(torch.full((6, 2), 0.1), list("aaabbb")) == 0
    assert permutation_test(torch.zeros(6, 2), list("aaabbb"), permutations=20) == (0.0, 1.0, 0.0, 0.0)


def test_p_value_agrees_with_enumeration() -> None:
    points, groups = torch.tensor([[0.0], [1.0], [2.5], [7.0], [8.5], [4.0]]), list("aaabbb")
    observed = silhouette_score(points.numpy(), groups)
    every = np.array([silhouette_score(points.numpy(), order) for order in permutations(groups)])
    exact = (every >= observed - 1e-9).mean()
    found = permutation_test(points, groups, permutations=20_000)
    assert found.statistic == pytest.approx(observed)
    assert found.p_value == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5)
    assert found.null_mean == pytest.approx(every.mean(), abs=0.01)
    assert found.null_std == pytest.approx(every.std(), abs=0.01)


def test_ties_with_the_observed_grouping_count() -> None:
    # two pairs: a third of all shuffles are the observed grouping, up to names
    points = torch.tensor([[0.1], [0.2], [10.3], [10.7]])
    assert permutation_test(points, list("aabb"), permutations=6_000).p_value == pytest.approx(1 / 3, abs=0.03)


def test_p_values_are_uniform_under_the_null() -> None:
    groups = list("aaaabbbbcccc")
    values = torch.tensor(
        [permutation_test(_random(12, 4, seed), groups, permutations=200, seed=seed).p_value for seed in range(300)]
    )
    assert values.mean().item() == pytest.approx(0.5, abs=0.06)  # 3.5 standard errors
    for level in (0.05, 0.2, 0.5):
        share = (values <= level).float().mean().item()
        assert share == pytest.approx(level, abs=4 * (level * (1 - level) / 300) ** 0.5)


def test_separated_clusters_have_a_small_p_value_which_is_never_zero() -> None:
    groups = ["100 %"] * 6 + ["50 %"] * 6
    centres = torch.tensor([[0.0, 0.0]] * 6 + [[8.0, 0.0]] * 6)
    found = permutation_test(centres + _random(12, 2, seed=5), groups, permutations=2_000)
    assert found.statistic > 0.7
    assert 1 / 2_001 <= found.p_value < 0.01
    assert found.null_mean < 0.05


def test_same_seed_same_answer_and_shuffles_in_any_number_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    points, groups = _random(9, 3, seed=2), list("aaabbbccc")
    whole = permutation_test(points, groups, permutations=1_001, seed=3)
    assert permutation_test(points, groups, permutations=1_001, seed=3) == whole
    assert permutation_test(points, groups, permutations=1_001, seed=4) != whole
    monkeypatch.setattr("dynamo.analysis.clustering._CHUNK_ELEMENTS", 27 * 100)
    chunked = permutation_test(points, groups, permutations=1_001, seed=3)
    assert chunked.p_value == pytest.approx(whole.p_value, abs=0.06)
    assert chunked.null_std == pytest.approx(whole.null_std, rel=0.15)


def test_group_distances_by_hand() -> None:
    points = torch.tensor([[0.0, 0.0], [0.0, 2.0], [4.0, 1.0], [4.0, 1.0], [0.0, 5.0]])
    found = group_distances(points, ["b", "b", "a", "a", "lone"])
    assert found.groups == ("b", "a", "lone")
    side = 32**0.5
    expected = torch.tensor([[0.0, 4.0, 4.0], [4.0, 0.0, side], [4.0, side, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found.between, expected)
    torch.testing.assert_close(found.within, torch.tensor([2.0, 0.0, torch.nan], dtype=torch.float64), equal_nan=True)


def test_group_distances_of_one_group() -> None:
    found = group_distances(torch.tensor([[0.0], [3.0], [6.0]]), ["only"] * 3)
    assert found.between.tolist() == [[0.0]]
    assert found.within.tolist() == [4.0]  # 3, 3 and 6


def test_refuses_groups_without_a_silhouette() -> None:
    points = _random(4, 2, seed=0)
    with pytest.raises(ValueError, match="at least two"):
        silhouette(points, ["same"] * 4)
    with pytest.raises(ValueError, match="one member"):
        permutation_test(points, list("abcd"))
    with pytest.raises(ValueError, match="not 3"):
        silhouette(points, list("aab"))
    with pytest.raises(ValueError, match="permutations"):
        permutation_test(points, list("aabb"), permutations=0)
    with pytest.raises(ValueError, match="NaN"):
        group_distances(points * torch.nan, list("aabb"))
    with pytest.raises(ValueError, match=r"\[N, N\]"):
        silhouette(points, list("aabb"), metric="precomputed")
    with pytest.raises(ValueError, match="diagonal"):
        silhouette(torch.eye(4), list("aabb"), metric="precomputed")


def test_distances_of_many_points_are_0_on_the_diagonal() -> None:
    """torch.cdist itself uses matrix products from 26 points on, and is not."""
    points = torch.randn(120, 16)
    distances = euclidean_distances(points)
    assert not distances.diagonal().any()
    assert distances.equal(distances.T)
    assert float(distances[3, 7]) == pytest.approx(float((points[3].double() - points[7].double()).norm()))


def test_distances_to_groups_are_means_over_members() -> None:
    distances = distances_to(torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0], [3.0, 0.0]]))
    assert distances[0].tolist() == [5.0, 1.0, 3.0]
    means = distances_to_groups(distances, ["a", "b", "a"])
    assert list(means) == ["a", "b"]
    assert means["a"].tolist() == [4.0, 2.0]
    assert means["b"].tolist() == [1.0, pytest.approx(10**0.5)]


@pytest.mark.parametrize(("groups", "ways"), [("aaabbb", 10), ("aabbcc", 15), ("aabbb", 10), ("abbb", 4), ("aaaa", 1)])
def test_the_least_p_is_that_of_all_ways_to_divide_the_points(groups: str, ways: int) -> None:
    """Counted out: a way is a set of sets of points."""
    divided = {
        frozenset(frozenset(i for i, name in enumerate(order) if name == one) for one in order)
        for order in permutations(groups)
    }
    assert len(divided) == ways
    assert least_p(groups) == pytest.approx(1 / ways)
