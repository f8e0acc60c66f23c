"""Numbers of an analysis become rows, things that are told alike columns, and spreads are those of the values."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dynamo.analyze.command import summary
from dynamo.report.table import MOST_ROWS, Cell, fixed, number, of_content, spread


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, 3.0], "2.00 ± 1.41"),  # the sample's: sqrt(2)
        ([0.951, 0.953], "0.952 ± 0.001"),
        ([0.25], "0.250"),
        ([1.0, None], "–"),
        ([1.0, math.inf], "–"),
        ([], "–"),
        ([0.0, 0.0], "0.000"),
        ([8, 8], "8"),
        ([1234.0, 1236.0], "1235 ± 1"),
    ],
)
def test_mean_and_spread(values: list[float | None], text: str) -> None:
    assert spread(values).text == text


def test_what_is_unknown_is_sorted_below_everything() -> None:
    for cell in (number(None), number(math.nan), fixed(None), spread([None])):
        assert cell == Cell("–", -math.inf)
    assert fixed(0.9) == Cell("0.900", 0.9)
    assert number(0.123456, 3, " s") == Cell("0.123 s", 0.123456)


def test_plain_values_have_dotted_names_and_options_are_left_out() -> None:
    content = {"options": {"a": 1}, "x": [1, 2], "tasks": {"imdb": {"chance": 0.5, "flag": True, "word": "no"}}}
    (table,) = of_content(content, "numbers")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["tasks.imdb.chance", "0.5", "accuracy of guessing"],
        ["tasks.imdb.flag", "yes", ""],
        ["tasks.imdb.word", "no", ""],
    ]


def test_things_told_alike_are_columns() -> None:
    content = {"points": {"X": {"count": 3, "base": {"count": 4}, "plane": [1, 2]}, "Y": {"count": 5, "lost": None}}}
    (table,) = of_content(content, "numbers")
    assert table.columns == ["", "count", "base.count"]
    assert [[cell.text for cell in row] for row in table.rows] == [["X", "3", "4"], ["Y", "5", "–"]]


def test_members_are_told_only_where_there_is_something_of_them_to_tell() -> None:
    members: list[dict[str, Any]] = [{"name": "a", "group": "g", "task": "t", "epoch": 3, "theta": [1.0]}]
    assert of_content({"members": members}, "numbers") == []
    (table,) = of_content({"members": [members[0] | {"loss": 0.5}]}, "numbers")
    assert "loss" in table.columns


def test_several_runs_have_mean_and_spread() -> None:
    runs = [{"deep": {"a": 1.0}, "name": "x"}, {"deep": {"a": 3.0}, "name": "y"}]
    (table,) = of_content(summary(runs), "numbers")
    assert [[cell.text for cell in row] for row in table.rows] == [["deep.a", "2.00 ± 1.41"]]


def test_a_long_table_says_what_it_leaves_out() -> None:
    rows = [{"name": str(i), "loss": float(i)} for i in range(MOST_ROWS + 1)]
    (table,) = of_content({"newcomers": rows}, "numbers")
    assert len(table.rows) == MOST_ROWS
    assert table.caption == f"newcomers (the first {MOST_ROWS} of {MOST_ROWS + 1})"
