"""Verdicts change where the page says that they do."""

from __future__ import annotations

import pytest

from dynamo.report.words import meaning, of_fidelity, of_mean, of_silhouette


@pytest.mark.parametrize(
    ("agreement", "explained", "grade"),
    [(0.9, 0.8, "good"), (0.9, 0.79, "fair"), (0.89, 0.9, "fair"), (0.79, 0.9, "poor"), (0.95, 0.49, "poor")],
)
def test_fidelity(agreement: float, explained: float, grade: str) -> None:
    assert of_fidelity(agreement, explained).grade == grade


@pytest.mark.parametrize(
    ("silhouette", "p", "grade"), [(0.25, 0.01, "good"), (0.24, 0.01, "fair"), (0.6, 0.05, "poor"), (-0.1, 0.5, "poor")]
)
def test_silhouette(silhouette: float, p: float, grade: str) -> None:
    assert of_silhouette(silhouette, p).grade == grade


def test_of_few_networks_nobody_can_say() -> None:
    assert of_silhouette(0.96, 0.11, least=0.1).grade == "unknown"
    assert "no p below 0.1 is possible" in of_silhouette(0.96, 0.11, least=0.1).text
    assert of_silhouette(0.02, 0.6, least=0.1).grade == "poor"
    assert of_silhouette(0.3, 0.049, least=0.03).grade == "good"


def test_members_that_guess_tell_nothing_of_the_mean() -> None:
    assert of_mean(0.717, 0.583, 0.7).grade == "unknown"
    assert of_mean(0.717, 0.583, None).grade == "good"


@pytest.mark.parametrize(
    ("mean", "chance", "grade"), [(0.8, 0.5, "good"), (0.79, 0.5, "good"), (0.7, 0.5, "fair"), (0.6, 0.5, "poor")]
)
def test_mean_against_a_median_of_80_percent(mean: float, chance: float, grade: str) -> None:
    assert of_mean(mean, 0.8, chance).grade == grade


def test_meanings_go_by_the_end_of_a_name() -> None:
    assert meaning("tasks.imdb.chance") == meaning("chance") == "accuracy of guessing"
    assert meaning("mischance") == ""
