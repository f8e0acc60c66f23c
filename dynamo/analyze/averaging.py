"""`dynamo analyze averaging`: networks between networks (abstract of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis import averaged_weights, bundle_accuracy, mean_points
from dynamo.analysis.accuracy_map import answers_at
from dynamo.analysis.interpolation import interpolate, interpolate_weights
from dynamo.analyze.base import Analysis, Content, Result, described
from dynamo.analyze.run import FinishedRun
from dynamo.figures.averaging_chart import AveragingChart, averaging_chart

SUBSET = "subset"


@dataclass(frozen=True)
class Averaging(Analysis):
    """Is there a working network between the networks (abstract of the paper)?

    Test accuracy of the meta-model at the mean theta of all members, of each group and of a subset of your choice, of
    the base models themselves, and of the network made of their averaged weights; and along the straight line between
    two members, in theta and in their weights.

    Args:
        subset: names of members whose mean is asked for besides.
        between: pairs of members as `NAME:NAME`, whose connecting line is walked; by default the first two
            members of the first group, and the first member of the first group with that of every other.
        steps: points on such a line, its ends included.

    Raises:
        ValueError: fewer than 2 steps, or a pair that is none.
    """

    name: ClassVar[str] = "averaging"
    subset: list[str] = field(default_factory=list)
    between: list[str] = field(default_factory=list)
    steps: int = 11

    def __post_init__(self) -> None:
        """Refuse what is no line."""
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}; a line has at least its two ends.")
        for pair in self.between:
            if pair.count(":") != 1:
                raise ValueError(f"between: {pair!r} is no pair of names such as 100%-0:25%-3.")

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        run.need_answers(self.name)
        points = self._points(run)
        pairs = [tuple(pair.split(":")) for pair in self.between] or _default_pairs(run)
        found: Content = {"output_weight": run.task.output_weight, "tasks": {}}
        for task in run.tasks:
            at = answers_at(run.task.network, torch.stack(list(points.values())), task, run.test_batches).accuracy
            base = run.base_accuracies[task]
            found["tasks"][task] = {
                "mean_theta": dict(zip(points, at.tolist(), strict=True)),
                "base_median": float(base.median()),
                "base_best": float(base.max()),
                "base": base.tolist(),
                "chance": _chance(run, task),
                "averaged_weights": self._averaged_weights(run, task),
                "lines": [self._line(run, task, *pair) for pair in pairs],
            }
        found["members"] = described(run.task.members)
        return found

    def _points(self, run: FinishedRun) -> Mapping[str, Tensor]:
        """The mean of all, of every group, and of the subset."""
        points = dict(mean_points(run.task.theta, run.groups))
        if self.subset:
            chosen = [run.index_of(name) for name in self.subset]
            points[SUBSET] = run.task.theta[chosen].double().mean(0).to(run.task.theta)
        return points

    def _averaged_weights(self, run: FinishedRun, task: str) -> dict[str, float]:
        """Test accuracy of the averaged weights of every bundle of this task, by the groups that are in it."""
        population, found = run.task.population, {}
        for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
            if members[0].task == task:
                name = ", ".join(dict.fromkeys(member.group for member in members))
                found[name] = float(bundle_accuracy(averaged_weights(bundle), task, run.test_batches))
        return found

    def _line(self, run: FinishedRun, task: str, first: str, second: str) -> Content:
        """Accuracy on the way from one member to another; of their weights too where one bundle holds both."""
        a, b = run.index_of(first), run.index_of(second)
        line = interpolate(
            run.task.network, run.task.theta[a], run.task.theta[b], task, run.test_batches, steps=self.steps
        )
        place_a, place_b = run.place_of(a), run.place_of(b)
        weights = None
        if place_a[0] == place_b[0] and run.task.population.tasks[place_a[0]] == task:
            bundle = run.task.population.bundles[place_a[0]]
            weights = interpolate_weights(bundle, place_a[1], place_b[1], task, run.test_batches, self.steps).tolist()
        return {
            "between": f"{first} → {second}",
            "shares": line.shares.tolist(),
            "accuracy": line.accuracy.tolist(),
            "weights_accuracy": weights,
        }

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """Members, means and lines of every task of the first run."""
        content = rows[0][0].content
        return averaging_chart(
            [
                AveragingChart(
                    members={
                        group: [
                            value
                            for value, member in zip(found["base"], _of_task(content, task), strict=True)
                            if member["group"] == group
                        ]
                        for group in dict.fromkeys(member["group"] for member in _of_task(content, task))
                    },
                    means=found["mean_theta"],
                    averaged_weights=found["averaged_weights"],
                    chance=found["chance"],
                    lines=[
                        (line["between"], line["shares"], line["accuracy"], line["weights_accuracy"])
                        for line in found["lines"]
                    ],
                    task=task,
                )
                for task, found in content["tasks"].items()
            ]
        )


def _of_task(content: Content, task: str) -> list[Content]:
    """The members of a task, in the order of their accuracies."""
    return [member for member in content["members"] if member["task"] == task]


def _default_pairs(run: FinishedRun) -> list[tuple[str, str]]:
    """Two members of the first group, and one of it with one of every other group."""
    first: dict[str, list[str]] = {}
    for member in run.task.members:
        first.setdefault(member.group, []).append(member.name)
    (own, *others) = first.values()
    return [(own[0], other) for other in [*own[1:2], *(names[0] for names in others)]]


def _chance(run: FinishedRun, task: str) -> float:
    """The share of the most frequent class among the test items."""
    targets = torch.cat([batch[task].targets for batch in run.test_batches if task in batch])
    return float(targets.bincount().max() / len(targets))
