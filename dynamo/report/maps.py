"""A map as the page shows it: points, fidelity, trajectories, attractors; of one run, or of several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from dynamo.analysis import PCA, pca
from dynamo.analyze.fixed_points import FixedPoints
from dynamo.analyze.run import FinishedRun
from dynamo.checkpoint_file import read_checkpoint
from dynamo.figures.map_panel import opacities, trajectories
from dynamo.figures.style import group_styles
from dynamo.population import Member
from dynamo.population.identity import KEY
from dynamo.report.source import Content, analyses_of, fidelity_of, sound
from dynamo.report.trajectories import Course, Courses
from dynamo.report.trajectories import trajectories as courses_of
from dynamo.runs import RunFolder
from dynamo.types import UserError

MOST_STATES: Final = 64
"""Of every attractor: of its fixed points, and of the states that the search began at."""


@dataclass(frozen=True)
class MapRun:
    """One trained map and what is known of it.

    Attributes:
        folder: of the run.
        members: in the order of theta.
        answer: PCA of theta.
        output_weight: lambda.
        distance: l2 or l1.
        split: on which the emulators were measured; None where they were not.
        fidelity: of every member, by the names of `Fidelity`; empty where it was not measured.
        courses: what the members go through; or why that is not shown.
        analyses: their numbers, by kind.
        identity: hashes of what the run rests on, as its checkpoint has them.
        population: how it was trained, for people to read.
    """

    folder: RunFolder
    members: tuple[Member, ...]
    answer: PCA
    output_weight: float
    distance: str
    split: str | None
    fidelity: list[dict[str, float]]
    courses: Courses | str
    analyses: dict[str, Content]
    identity: Mapping[str, Any]
    population: Mapping[str, Any]

    @classmethod
    def load(cls, folder: RunFolder) -> MapRun:
        """Read a finished map, and run its networks on a few items.

        Raises:
            UserError: it has not finished, something of it is damaged, or it is no map.
        """
        run = FinishedRun.load(folder, "cpu")
        names = [member.name for member in run.task.members]
        measured, split, fidelity = fidelity_of(folder), None, []
        if measured is not None:
            split, content = measured
            with sound(folder, f"fidelity_{split}"):
                rows = {row["name"]: {k: float(v) for k, v in row.items() if k != "name"} for row in content["members"]}
                fidelity = [rows[name] for name in names]
        return cls(
            folder=folder,
            members=run.task.members,
            answer=pca(run.task.theta),
            output_weight=run.task.output_weight,
            distance=run.task.distance,
            split=split,
            fidelity=fidelity,
            courses=courses_of(run),
            analyses=analyses_of(folder),
            identity=read_checkpoint(folder.checkpoint("last")).get(KEY, {}),
            population=run.task.population.config,
        )


def load_all(folders: Sequence[RunFolder]) -> list[MapRun]:
    """The maps of a figure, one per seed.

    Raises:
        UserError: as `MapRun.load`; or they are maps of different populations.
    """
    maps = [MapRun.load(folder) for folder in folders]
    for other in maps[1:]:
        if [(m.name, m.group) for m in other.members] != [(m.name, m.group) for m in maps[0].members]:
            raise UserError(
                f"{maps[0].folder.root} and {other.folder.root} are maps of different networks; a report is of one "
                "population: name one of the two runs."
            )
    return maps


def page_data(maps: Sequence[MapRun]) -> Content:
    """Everything that the page's script draws, as plain values."""
    members = maps[0].members
    styles = group_styles([member.group for member in members])
    classes = [course.label for one in maps for each in _courses(one.courses) for course in each]
    return {
        "members": [{"name": m.name, "group": m.group, "task": m.task, "epoch": m.epoch} for m in members],
        "styles": _styles(styles),
        "classes": _styles(group_styles(classes)) if classes else [],
        "opacity": opacities(members),
        "lines": trajectories(members) or [],
        "runs": [_run_data(one, maps[0].answer.coordinates) for one in maps],
    }


def _styles(styles: Mapping[str, Any]) -> list[Content]:
    return [{"name": name, "colour": style.colour, "marker": style.marker} for name, style in styles.items()]


def _courses(courses: Courses | str) -> list[list[Course]]:
    return [] if isinstance(courses, str) else courses.members


def _run_data(run: MapRun, reference: Tensor) -> Content:
    """One seed; its axes are turned so that it can be compared with the first one's."""
    points = _plane(run.answer.coordinates)
    turn = torch.sign((points * _plane(reference)).sum(0))
    turn[turn == 0] = 1
    courses = run.courses
    found: Content = {
        "name": run.folder.root.name.replace("=", " "),
        "axis": "θ" if run.answer.coordinates.shape[1] <= 2 else "PC",
        "shares": _rounded(run.answer.spectrum[:2]),
        "points": _rounded(points * turn),
        "split": run.split,
        "fidelity": run.fidelity,
        "places": [],
        "attractors": {},
        "courses": None,
        "missing": courses if isinstance(courses, str) else None,
    }
    if not isinstance(courses, str):
        found["shares_of_states"] = _rounded(torch.tensor(courses.shares))
        found["images"], found["items"] = courses.images, courses.items
        found["courses"] = [[_course(course) for course in each] for each in courses.members]
    if (solved := run.analyses.get(FixedPoints.name)) is not None:
        with sound(run.folder, FixedPoints.name):
            names = [member.name for member in run.members]
            for name, place in solved["points"].items():
                attractor = _attractor(name, place)
                if place["member"] in names:
                    found["attractors"][str(names.index(place["member"]))] = attractor
                else:
                    at = _rounded(torch.tensor([float(v) for v in place["plane"]][:2]) * turn)
                    found["places"].append({"name": name, "group": place["group"], "at": at, "attractor": attractor})
    return found


def _course(course: Course) -> Content:
    return {
        "label": course.label,
        "emulator": _rounded(course.emulator),
        "original": _rounded(course.original),
        "ends": _rounded(course.ends),
    }


def _attractor(name: str, place: Content) -> Content:
    """The fixed points on their own two axes, with their logits, and the states that the search began at."""
    every = max(1, -(-len(place["fixed"]) // MOST_STATES))
    fixed = torch.tensor(place["fixed"], dtype=torch.float64).reshape(-1, 2)[::every]
    visited = torch.tensor(place["visited"], dtype=torch.float64).reshape(-1, 2)
    found: Content = {
        "name": name,
        "fixed": _rounded(fixed),
        "logits": _rounded(torch.tensor(place["logits"], dtype=torch.float64)[::every]),
        "visited": _rounded(visited[:: max(1, -(-len(visited) // MOST_STATES))]),
        "converged": float(place["converged_share"]),
    }
    return found | {key: float(place[key]) for key in ("dimension", "length") if place.get(key) is not None}


def _plane(points: Tensor) -> Tensor:
    """Two columns, the second 0 on a map of one dimension."""
    return torch.nn.functional.pad(points[:, :2], (0, max(0, 2 - points.shape[1])))


def _rounded(values: Tensor) -> Any:  # noqa: ANN401 - nested lists of floats
    """As lists, with three decimals more than the largest value needs; -0 is 0."""
    size = float(values.abs().max()) if values.numel() else 0.0
    digits = 3 if size == 0 else max(0, 3 - int(torch.tensor(size).log10().floor()))
    return (values.double().round(decimals=digits) + 0.0).tolist()
