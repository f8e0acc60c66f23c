"""`dynamo analyze leave_one_out`: do networks that a map was made without come to lie where they would have been?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis import pca, procrustes_align
from dynamo.analysis.leave_one_out import Agreement, Fold, Near, agreement, fold_of, fold_of_members, near, shared
from dynamo.analyze.base import Analysis, Content, Result, check_at_least, described, members_of, title_of
from dynamo.analyze.folds import FoldRun, embedded, folds_of
from dynamo.analyze.run import FinishedRun
from dynamo.figures import NewcomersPanel, map_panel, newcomers_plane
from dynamo.types import UserError

TOLD = ("variance_explained", "agreement")
"""What of the fidelity is told, where there is that much."""


@dataclass(frozen=True)
class LeaveOneOut(Analysis):
    """Does a network that the map was made without come to lie where it would have been?

    `--run` names the map of all, `--folds` maps that were made in the same way without some of its members
    (`--model.init_args.leave_out`), on which these were put afterwards (`dynamo analyze embed`). Of every network that
    was left out, its nearest group (least mean distance in theta) and its nearest members among those of the fold are
    compared with the ones it has on the map of all. Told: how often they agree; how often by chance, with the names of
    the members shuffled (p: the share of shuffles that agree as often); and how often those of the members themselves
    do, whom both maps were made of. With several maps in `--run`, each takes the folds of its own seed and options.

    Args:
        folds: run folders, or patterns of them.
        neighbours: how many of the nearest members are compared.
        permutations: shuffles of the permutation test.
        seed: of the shuffles.

    Raises:
        ValueError: an option out of its range, or no fold.
    """

    folds: list[str]
    name: ClassVar[str] = "leave_one_out"
    folders: ClassVar[tuple[str, ...]] = ("folds",)
    neighbours: int = 3
    permutations: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what compares nothing."""
        check_at_least(1, self, "neighbours", "permutations")
        check_at_least(0, self, "seed")
        if not self.folds:
            raise ValueError("folds names no run; give the maps that were made without some members.")

    def options(self) -> Content:
        """What is asked, with a hash of what the folds tell."""
        return asdict(self) | {"embedded": embedded(self.folds)}

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        folds = folds_of(run.folder, self.folds)
        theta, groups = run.task.theta.detach().cpu().double(), run.groups
        plane = pca(theta)
        left_out, own, rows = [], [], []
        for fold in folds:
            stayed, gone = _rows(run, fold)
            names = [groups[i] for i in stayed]
            left_out.append(fold_of(theta[gone], fold.places, theta[stayed], fold.theta, names))
            own.append(fold_of_members(theta[stayed], fold.theta, names))
            place = procrustes_align(fold.theta, theta[stayed]).carry(fold.places, theta[gone])
            rows += self._told(run, fold, left_out[-1], plane.project(place)[:, :2])
        found = agreement(left_out, self.neighbours, self.permutations, self.seed)
        ceiling = agreement(own, min(self.neighbours, *(len(fold.members) - 2 for fold in folds)), 1)
        return {
            "left_out": len(rows),
            **_numbers(found),
            "own_group": statistics.fmean(row["nearest_group"] == row["group"] for row in rows),
            "own_group_before": statistics.fmean(row["nearest_group_before"] == row["group"] for row in rows),
            "distance_change": _change(left_out),
            "fidelity": _means([row for fold in folds for row in fold.newcomers]),
            "of_members": {
                "group_agreement": ceiling.group,
                "neighbour_agreement": ceiling.neighbour,
                "distance_change": _change(own),
                "fidelity": _means([fold.fidelity_of_members for fold in folds]),
            },
            "folds": [str(fold.folder.root) for fold in folds],
            "networks": rows,
            "members": described(run.task.members, theta=theta, plane=plane.coordinates[:, :2]),
        }

    def _told(self, run: FinishedRun, fold: FoldRun, distances: Fold, plane: Tensor) -> list[Content]:
        """What is told of each network that this fold was made without."""
        names = list(dict.fromkeys(distances.groups))
        groups = {member.name: member.group for member in run.task.members}
        before, after = (near(part, distances.groups, self.neighbours) for part in (distances.before, distances.after))
        common = shared(before.members, after.members)

        def who(found: Near, index: int) -> tuple[str, list[str]]:
            return names[int(found.group[index])], [fold.members[i] for i in found.members[index].tolist()]

        rows = []
        for index, name in enumerate(fold.names):
            (group, nearest), (group_before, nearest_before) = who(after, index), who(before, index)
            rows.append(
                {
                    "name": name,
                    "group": groups[name],
                    "fold": fold.folder.root.name,
                    "nearest_group": group,
                    "nearest_group_before": group_before,
                    "nearest": nearest,
                    "nearest_before": nearest_before,
                    "shared": int(common[index]),
                    "plane": plane[index].tolist(),
                }
            )
        return rows

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """The maps of all, with an arrow from every network's place to where it came to lie as a newcomer."""
        return newcomers_plane(*([_panel(result) for result in row] for row in rows))


def _rows(run: FinishedRun, fold: FoldRun) -> tuple[list[int], list[int]]:
    """Rows of theta on the map of all: of the fold's members, and of its newcomers.

    Raises:
        UserError: one of them is not on the map of all.
    """
    known = {member.name: row for row, member in enumerate(run.task.members)}
    strangers = [name for name in [*fold.members, *fold.names] if name not in known]
    if strangers:
        raise UserError(
            f"{fold.folder.root}: {strangers[0]!r} is not on the map of {run.folder.root}; embed the members that were "
            "left out alone, or the population of that map."
        )
    return [known[name] for name in fold.members], [known[name] for name in fold.names]


def _numbers(found: Agreement) -> Content:
    """As they stand in the results."""
    return {
        "group_agreement": found.group,
        "group_chance": found.group_chance,
        "p_group": found.p_group,
        "neighbour_agreement": found.neighbour,
        "neighbour_chance": found.neighbour_chance,
        "p_neighbour": found.p_neighbour,
    }


def _change(folds: Sequence[Fold]) -> float:
    """By how much do distances to the members differ on both maps, as a share of what they are on the map of all?"""
    before, after = (
        torch.cat([part.flatten() for part in parts]) for parts in zip(*(f[:2] for f in folds), strict=True)
    )
    return float((after - before).abs().nanmean() / before.nanmean())


def _means(rows: Sequence[Content]) -> Content:
    return {key: statistics.fmean(row[key] for row in rows) for key in TOLD if all(key in row for row in rows)}


def _panel(result: Result) -> NewcomersPanel:
    content = result.content
    members, rows = content["members"], content["networks"]
    answer = pca(torch.tensor([member["theta"] for member in members]))
    at = {member["name"]: answer.coordinates[i, :2] for i, member in enumerate(members)}
    note = (
        f"same nearest group {content['group_agreement']:.0%} (chance {content['group_chance']:.0%}), "
        f"same neighbours {content['neighbour_agreement']:.0%} ({content['neighbour_chance']:.0%})"
    )
    return NewcomersPanel(
        map_panel(answer, members_of(content), title_of(result), note.replace("%", " %")),
        [row["plane"] for row in rows],
        [row["name"] for row in rows],
        [row["group"] for row in rows],
        torch.stack([at[row["name"]] for row in rows]),
    )
