"""`dynamo analyze averaging`: networks between networks (abstract of the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis import averaged_weights, bundle_accuracy, mean_points, with_own_statistics
from dynamo.analysis.accuracy_map import answers_at
from dynamo.analysis.averaging import ALL
from dynamo.analysis.interpolation import interpolate, interpolate_weights
from dynamo.analyze.base import Analysis, Content, Result, described
from dynamo.analyze.run import FinishedRun
from dynamo.figures.averaging_chart import AveragingChart, averaging_chart
from dynamo.population import PopulationError
from dynamo.population.residual import ResidualBundle
from dynamo.types import TaskBatch

SUBSET = "subset"
IMAGES = 2048
"""Training images that batch norms gather statistics of averaged weights on."""


@dataclass(frozen=True)
class Averaging(Analysis):
    """Is there a working network between the networks (abstract of the paper)?

    Test accuracy of the meta-model at the mean theta of all members, of each group and of a subset of your choice, of
    the base models themselves, and of the network made of their averaged weights; and along the straight line between
    two members, in theta and in their weights. Where networks have batch norms, averaged weights are measured a second
    time with statistics of their own, gathered on training images: the fairer control.

    Args:
        subset: names of members whose mean is asked for besides.
        between: pairs of members as `NAME:NAME`, whose connecting line is walked; by default the first two
            members of the first group, and the first member of the first group with that of every other.
        steps: points on such a line, its ends included.

    Raises:
        ValueError: fewer than 2 steps, or a pair that is none.
    """

    name: ClassVar[str] = "averaging"
    of_answers: ClassVar[bool] = True
    subset: list[str] = field(default_factory=list)
    between: list[str] = field(default_factory=list)
    steps: int = 11

    def __post_init__(self) -> None:
        """Refuse what is no line."""
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}; a line has at least its two ends.")
        for pair in self.between:
            if pair.count(":") != 1 or pair.startswith(":") or pair.endswith(":"):
                raise ValueError(f"between: {pair!r} is no pair of names such as 100%-0:25%-3.")

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        run.need_answers(self.name)
        points = self._points(run)
        pairs = [(first, second) for first, _, second in (pair.partition(":") for pair in self.between)]
        lines = [(run.index_of(first), run.index_of(second)) for first, second in pairs or _default_pairs(run)]
        found: Content = {"tasks": {}}
        for task in run.tasks:
            at = answers_at(run.task.network, torch.stack(list(points.values())), task, run.test_batches).accuracy
            base = run.base_accuracies[task]
            found["tasks"][task] = {
                "mean_theta": dict(zip(points, at.tolist(), strict=True)),
                "base_median": float(base.median()),
                "base_best": float(base.max()),
                "base": base.tolist(),
                "chance": _chance(run, task),
                **self._averaged_weights(run, task),
                "lines": [self._line(run, task, *ends) for ends in lines],
            }
        found["members"] = described(run.task.members)
        return found

    def _points(self, run: FinishedRun) -> Mapping[str, Tensor]:
        """The mean of all, of every group, and of the subset."""
        points = dict(mean_points(run.task.theta, run.groups))
        if self.subset:
            if SUBSET in points:
                raise ValueError(f"a group is called {SUBSET!r}, as the mean over --subset would be; rename the group.")
            chosen = [run.index_of(name) for name in self.subset]
            points[SUBSET] = run.task.theta[chosen].double().mean(0).to(run.task.theta)
        return points

    def _averaged_weights(self, run: FinishedRun, task: str) -> dict[str, dict[str, float]]:
        """Test accuracy of averaged weights: of all members of this task, of each group, and of the subset.

        Only networks that are built alike have a mean of weights; where a group's are not, it is left out.
        """
        everyone = [i for i, member in enumerate(run.task.members) if member.task == task]
        chosen = {ALL: everyone}
        for name in dict.fromkeys(run.groups[i] for i in everyone):
            chosen[name] = [i for i in everyone if run.groups[i] == name]
        if self.subset:
            chosen[SUBSET] = [run.index_of(name) for name in self.subset]
        found, own_statistics = {}, {}
        for name, rows in chosen.items():
            places = [run.place_of(row) for row in rows]
            if len({bundle for bundle, _ in places}) != 1 or places[0][0] not in run.bundles_of(task):
                continue
            bundle = run.task.population.bundles[places[0][0]].take([index for _, index in places])
            with suppress(PopulationError):  # networks of somebody's own, of different classes
                average = averaged_weights(bundle)
                found[name] = float(bundle_accuracy(average, task, run.test_batches))
                if isinstance(average, ResidualBundle):
                    refreshed = with_own_statistics(average, task, self._training_items(run, task))
                    own_statistics[name] = float(bundle_accuracy(refreshed, task, run.test_batches))
        if own_statistics:
            return {"averaged_weights": found, "averaged_weights_own_statistics": own_statistics}
        return {"averaged_weights": found}

    def _training_items(self, run: FinishedRun, task: str) -> Iterator[dict[str, TaskBatch]]:
        """Some training items of all classes in batches of 64."""
        positions = run.loaded.drawn("train", task, IMAGES)
        parts = max(1, len(positions) // 64)
        for part in range(parts):
            yield {task: run.batch("train", task, positions[part::parts])}

    def _line(self, run: FinishedRun, task: str, a: int, b: int) -> Content:
        """Accuracy on the way from one member to another; of their weights too where one bundle holds both."""
        first, second = (run.task.members[row].name for row in (a, b))
        line = interpolate(
            run.task.network, run.task.theta[a], run.task.theta[b], task, run.test_batches, steps=self.steps
        )
        place_a, place_b = run.place_of(a), run.place_of(b)
        weights = None
        if place_a[0] == place_b[0] and place_a[0] in run.bundles_of(task):
            bundle = run.task.population.bundles[place_a[0]]
            with suppress(PopulationError):
                at = interpolate_weights(bundle, place_a[1], place_b[1], task, run.test_batches, self.steps)
                weights = at.tolist()
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
                    own_statistics=found.get("averaged_weights_own_statistics", {}),
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
