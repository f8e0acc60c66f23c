"""Tables: what stands in them, how numbers are written, and how the nested numbers of an analysis become some."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dynamo.report.words import meaning

Content = dict[str, Any]
MOST_ROWS: Final = 200
"""Of the tables of an analysis; what is longer stands in its file."""
ELSEWHERE: Final = {"options", "output_weight", "distance", "dimensions", "x", "y"}
DESCRIPTION: Final = {"name", "group", "task", "epoch", "policy"}
SUMMED: Final = {"mean", "std", "values"}
"""The keys of a number over several runs, as `dynamo.analyze.command.summary` tells it."""


class Cell(NamedTuple):
    """One entry: what is read, and what it is sorted by (None: the text)."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """What is set out in rows and columns; the first cell of a row is its heading.

    Attributes:
        caption: what it shows.
        columns: their headings.
        rows: of cells, as many as there are columns.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def number(value: float | None, digits: int = 4, unit: str = "") -> Cell:
    """A number with so many significant digits; a dash for what is unknown."""
    if value is None or math.isnan(value):
        return Cell("–", -math.inf)
    return Cell(f"{value:.{digits}g}{unit}", value)


def fixed(value: float | None, decimals: int = 3) -> Cell:
    """A number with so many decimals, for columns that are compared; a dash for what is unknown."""
    unknown = value is None or math.isnan(value)
    return number(None) if unknown else Cell(f"{value:.{decimals}f}", value)


def spread(values: Sequence[float | None], digits: int = 3) -> Cell:
    """Mean ± standard deviation with the same decimals; the value alone where all are alike; a dash for the unknown."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or len(known) < len(values):
        return Cell("–", -math.inf)
    mean = statistics.fmean(known)
    decimals = digits - 1 - math.floor(math.log10(abs(mean))) if mean else digits
    decimals = min(max(decimals, 0), 6)
    if len(set(known)) == 1:
        return number(mean) if isinstance(known[0], int) else Cell(f"{mean:.{decimals}f}", mean)
    return Cell(f"{mean:.{decimals}f} ± {statistics.stdev(known):.{decimals}f}", mean)


def of_content(content: Content, caption: str) -> list[Table]:
    """The tables of an analysis: one of its numbers, and one of everything that is told of several things alike."""
    found: list[Table] = []
    plain: list[tuple[str, Cell]] = []
    _walk({key: value for key, value in content.items() if key not in ELSEWHERE}, "", plain, found)
    if plain:
        rows = [[Cell(name), cell, Cell(meaning(name))] for name, cell in plain[:MOST_ROWS]]
        told = any(row[2].text for row in rows)
        heading = ("number", "value", "what it says") if told else ("number", "value")
        found.insert(0, Table(caption, heading, [row[: len(heading)] for row in rows]))
    return found


def _walk(content: Mapping[str, Any], prefix: str, plain: list[tuple[str, Cell]], tables: list[Table]) -> None:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if (cell := _cell(value)) is not None:
            plain.append((name, cell))
        elif (alike := _alike(value)) is not None:
            tables += _matrix(name, alike)
        elif isinstance(value, dict):
            _walk(value, f"{name}.", plain, tables)


def _cell(value: object) -> Cell | None:
    """The cell of a plain value, or of a number over several runs; None for anything deeper."""
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, str):
        return Cell(value)
    if isinstance(value, dict) and set(value) == SUMMED:
        return spread(value["values"])
    return None


def _alike(value: object) -> dict[str, dict[str, Any]] | None:
    """Several things of which the same is told, by name; None where it is something else."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return {str(one.get("name", place)): one for place, one in enumerate(value, start=1)}
    if isinstance(value, dict) and len(value) > 1 and all(isinstance(one, dict) for one in value.values()):
        shared = set.intersection(*(set(_flat(one)) for one in value.values()))
        return value if shared and _cell(next(iter(value.values()))) is None else None
    return None


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Cell]:
    """The plain values of nested tables, names joined by dots."""
    found: dict[str, Cell] = {}
    for key, value in content.items():
        if (cell := _cell(value)) is not None:
            found[f"{prefix}{key}"] = cell
        elif isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
    return found


def _matrix(name: str, things: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    rows = {key: _flat(one) for key, one in list(things.items())[:MOST_ROWS]}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row if column != "name"))
    told = {column for row in rows.values() for column, cell in row.items() if cell.value is not None}
    if not told - DESCRIPTION:
        return []  # who the members are stands in their own table
    missing = Cell("–", -math.inf)
    body = [[Cell(key), *(row.get(column, missing) for column in columns)] for key, row in rows.items()]
    cut = f" (the first {MOST_ROWS} of {len(things)})" if len(things) > MOST_ROWS else ""
    return [Table(f"{name}{cut}", ["", *columns], body)]
