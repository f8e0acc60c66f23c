"""The key numbers and their verdicts are those of the results; what was not measured says what would measure it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamo.population import Member
from dynamo.report.maps import MapRun
from dynamo.report.summary import Card, Summary, of_maps, of_population


def analyses(silhouette: float, mean: float) -> dict[str, dict[str, Any]]:
    at = {"mean_theta": {"all": mean}, "base_median": 0.8, "chance": 0.5}
    return {"embedding": {"silhouette_theta": silhouette, "p_theta": 0.001}, "averaging": {"tasks": {"t": at}}}


@pytest.fixture
def measured(map_run: MapRun) -> MapRun:
    rows = [{"agreement": 0.95, "variance_explained": 0.9} for _ in map_run.members]
    return replace(map_run, fidelity=rows, analyses=analyses(0.3, 0.75))


def cards(summary: Summary) -> dict[str, Card]:
    return {card.label: card for card in summary.cards}


def test_one_map(measured: MapRun) -> None:
    found = cards(of_maps([measured]))
    assert {name: found[name].value for name in found} == {
        "networks": "12",
        "groups": "3",
        "dimensions D": "16",
        "λ": "1",
        "fidelity": "0.950",
        "silhouette": "0.300",
        "mean of all": "0.750",
    }
    grades = {name: found[name].verdict.grade for name in found if found[name].verdict}  # type: ignore[union-attr]
    assert grades == {"fidelity": "good", "silhouette": "good", "mean of all": "fair"}


def test_networks_without_answers_are_judged_by_their_states(measured: MapRun) -> None:
    found = cards(of_maps([replace(measured, fidelity=[{"variance_explained": 0.6}])]))["fidelity"]
    assert (found.value, found.note) == ("0.600", "of the variance")
    assert found.verdict is not None
    assert found.verdict.grade == "fair"


def test_several_maps_have_a_spread_and_the_largest_p(measured: MapRun) -> None:
    other = analyses(0.4, 0.85)
    other["embedding"]["p_theta"] = 0.06
    found = cards(of_maps([measured, replace(measured, analyses=other)]))
    assert found["silhouette"].value == "0.350 ± 0.071"
    assert found["silhouette"].note == "the largest p = 0.06"
    assert found["silhouette"].verdict is not None
    assert found["silhouette"].verdict.grade == "poor"
    assert found["mean of all"].value == "0.800 ± 0.071"


def test_what_is_missing_names_its_command(measured: MapRun) -> None:
    told = of_maps([replace(measured, fidelity=[], analyses={})]).sentences
    assert [sentence.text.split("`")[1] for sentence in told[1:]] == [
        "dynamo test",
        "dynamo analyze embedding",
        "dynamo analyze averaging",
    ]


def test_without_answers_there_is_no_accuracy_in_the_middle(measured: MapRun) -> None:
    assert cards(of_maps([replace(measured, output_weight=0.0)]))["mean of all"].value == "–"


def test_one_group_is_no_grouping(measured: MapRun) -> None:
    members = tuple(replace(member, group="all") for member in measured.members)
    assert cards(of_maps([replace(measured, members=members)]))["silhouette"].note == "one group"


def test_a_population() -> None:
    members = [
        Member(str(i), "g", "t", val_accuracy=0.1, test_accuracy=value) for i, value in enumerate((0.5, 0.7, 0.6))
    ]
    found = of_population(members)
    assert cards(found)["accuracy"] == Card("accuracy", "0.600", "median, on test items")
    unmeasured = of_population([Member("a", "g", "t")])
    assert "dynamo test" in unmeasured.sentences[1].text
