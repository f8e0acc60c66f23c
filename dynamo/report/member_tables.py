"""The members in numbers: fidelity per group with its spread, and one row for each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

from dynamo.population import Member
from dynamo.report.maps import MapRun
from dynamo.report.table import Cell, Table, fixed, number, spread

FIDELITY: Final = {
    "agreement": "agreement",
    "variance_explained": "variance explained",
    "kl": "KL",
    "accuracy": "emulator's accuracy",
    "original_accuracy": "original's accuracy",
}
"""What is told of an emulator, in the order of the columns."""
EVERYONE: Final = "all"


def fidelity_table(maps: Sequence[MapRun]) -> Table | None:
    """How well are the members of each group emulated? None where it was not measured."""
    if any(not one.fidelity for one in maps):
        return None
    groups = [member.group for member in maps[0].members]
    known = [key for key in FIDELITY if all(key in row for one in maps for row in one.fidelity)]
    criterion = known[0]  # agreement, where the networks have answers
    rows = []
    for name in [*dict.fromkeys(groups), None]:
        chosen = [i for i, group in enumerate(groups) if name in (None, group)]
        cells = []
        for key in known:
            each = [[one.fidelity[i][key] for i in chosen] for one in maps]
            cells.append(spread(each[0] if len(maps) == 1 else [statistics.fmean(values) for values in each]))
        worst, whose = min((one.fidelity[i][criterion], maps[0].members[i].name) for one in maps for i in chosen)
        title = EVERYONE if name is None else name
        cells.append(Cell(f"{worst:.3f} ({whose})", worst))
        rows.append([Cell(title), Cell(str(len(chosen)), len(chosen)), *cells])
    over = "members" if len(maps) == 1 else f"the means of {len(maps)} seeds"
    split = "test" if all(one.split == "test" for one in maps) else "validation"
    columns = ("group", "networks", *(FIDELITY[key] for key in known), f"worst {FIDELITY[criterion]}")
    return Table(f"Fidelity per group on {split} items: mean ± standard deviation over {over}", columns, rows)


def members_table(members: Sequence[Member], maps: Sequence[MapRun] = ()) -> Table:
    """Who are the networks, how good are they, and how well are they emulated? Over several seeds the spread."""
    columns = ["network", "group", "trained on", "seed"]
    rows = [
        [Cell(m.name), Cell(m.group), number(m.fraction * 100, 4, " %"), Cell(str(m.seed), m.seed)] for m in members
    ]
    tasks = [Cell(m.task) for m in members]
    further: dict[str, list[Cell]] = {
        **({"task": tasks} if len(set(tasks)) > 1 else {}),
        "epoch": [Cell("–", -math.inf) if m.epoch is None else Cell(str(m.epoch), m.epoch) for m in members],
        "policy": [Cell(m.policy) for m in members],
        "validation accuracy": [fixed(m.val_accuracy) for m in members],
        "test accuracy": [fixed(m.test_accuracy) for m in members],
    }
    if maps and all(one.fidelity for one in maps):
        for key, title in FIDELITY.items():
            each = [[one.fidelity[i].get(key) for one in maps] for i in range(len(members))]
            further[title] = [spread(values) if len(maps) > 1 else fixed(values[0]) for values in each]
    blank = {"–", "none"}
    for title, cells in further.items():
        if any(cell.text not in blank for cell in cells):
            columns.append(title)
            rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    over = f"; fidelity: mean ± standard deviation over {len(maps)} seeds" if len(maps) > 1 else ""
    return Table(f"The {len(members)} networks{over}", columns, rows)


def accuracy_table(members: Sequence[Member]) -> Table | None:
    """How good are the members of each group? None where nobody measured it."""
    rows = []
    for name in dict.fromkeys(member.group for member in members):
        mine = [member for member in members if member.group == name]
        cells = [spread([m.val_accuracy for m in mine]), spread([m.test_accuracy for m in mine])]
        rows.append([Cell(name), Cell(str(len(mine)), len(mine)), *cells])
    if all(cell.text == "–" for row in rows for cell in row[2:]):
        return None
    columns = ("group", "networks", "validation accuracy", "test accuracy")
    return Table("Accuracy per group: mean ± standard deviation over networks", columns, rows)
