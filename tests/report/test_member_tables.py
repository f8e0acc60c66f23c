"""Groups have the mean and spread of their members, or of their means over seeds; every member has a row."""

from __future__ import annotations

import statistics
from dataclasses import replace

from dynamo.population import Member
from dynamo.report.maps import MapRun
from dynamo.report.member_tables import FIDELITY, accuracy_table, fidelity_table, members_table

MEMBERS = [
    Member("a-0", "a", "t", seed=3, fraction=0.5, val_accuracy=0.5, test_accuracy=0.7),
    Member("a-1", "a", "t", val_accuracy=0.5, test_accuracy=0.8),
    Member("b-0", "b", "t", val_accuracy=0.9, test_accuracy=0.9),
]


def maps(map_run: MapRun, *agreements: list[float]) -> list[MapRun]:
    rows = [[dict.fromkeys(FIDELITY, 0.5) | {"agreement": value} for value in each] for each in agreements]
    return [replace(map_run, members=tuple(MEMBERS), fidelity=each) for each in rows]


def test_spread_of_one_map_is_over_members(map_run: MapRun) -> None:
    table = fidelity_table(maps(map_run, [0.7, 0.9, 0.6]))
    assert table is not None
    rows = {row[0].text: row for row in table.rows}
    assert rows["a"][2].text == f"0.800 ± {statistics.stdev([0.7, 0.9]):.3f}"
    assert rows["b"][2].text == "0.600"
    assert rows["all"][-1].text == "0.600 (b-0)"
    assert [row[1].value for row in table.rows] == [2, 1, 3]
    assert "over members" in table.caption


def test_spread_of_several_maps_is_over_seeds(map_run: MapRun) -> None:
    table = fidelity_table(maps(map_run, [0.7, 0.9, 0.6], [0.8, 1.0, 0.6]))
    assert table is not None
    assert table.rows[0][2].text == f"0.850 ± {statistics.stdev([0.8, 0.9]):.3f}"
    assert "the means of 2 seeds" in table.caption


def test_networks_without_answers_have_no_agreement(map_run: MapRun) -> None:
    rows = [{"variance_explained": value, "kl": 0.0} for value in (0.7, 0.9, 0.6)]
    one = replace(map_run, members=tuple(MEMBERS), fidelity=rows)
    table = fidelity_table([one])
    assert table is not None
    assert table.columns == ("group", "networks", "variance explained", "KL", "worst variance explained")
    assert table.rows[-1][-1].text == "0.600 (b-0)"
    assert "agreement" not in members_table(MEMBERS, [one]).columns


def test_unmeasured_fidelity_has_no_table(map_run: MapRun) -> None:
    assert fidelity_table([replace(map_run, fidelity=[])]) is None


def test_members_have_what_is_known_of_them(map_run: MapRun) -> None:
    table = members_table(MEMBERS, maps(map_run, [0.7, 0.9, 0.6]))
    assert "task" not in table.columns  # the same for all
    row = dict(zip(table.columns, table.rows[0], strict=True))
    texts = {name: row[name].text for name in ("network", "trained on", "seed", "test accuracy", "agreement")}
    assert texts == {
        "network": "a-0",
        "trained on": "50 %",
        "seed": "3",
        "test accuracy": "0.700",
        "agreement": "0.700",
    }
    assert "task" in members_table([MEMBERS[0], replace(MEMBERS[1], task="other")]).columns


def test_accuracy_by_group() -> None:
    table = accuracy_table(MEMBERS)
    assert table is not None
    assert table.rows[0][3].text == f"0.750 ± {statistics.stdev([0.7, 0.8]):.3f}"
    assert accuracy_table([Member("a", "a", "t")]) is None
