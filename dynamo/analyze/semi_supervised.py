"""`dynamo analyze semi_supervised`: can a handful of labels find a good network on the map (Figure 7)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis import bundle_accuracy
from dynamo.analysis.accuracy_map import answers_at
from dynamo.analysis.labels import draw_labels
from dynamo.analysis.plane import plane_of
from dynamo.analysis.semi_supervised import Trainable, search_many, train_from_scratch
from dynamo.analyze.accuracy_map import AccuracyMap, panels_of
from dynamo.analyze.base import Analysis, Content, Result, axis_name, check_at_least, described, title_of
from dynamo.analyze.run import FinishedRun
from dynamo.figures.label_search import LabelCurve, LabelSearch, label_search
from dynamo.types import TaskBatch


@dataclass(frozen=True)
class SemiSupervised(Analysis):
    """Can a handful of labels find a good network on the map (Figure 7 of the paper)?

    Gradient descent on theta alone, from 0, on k labelled items that no network was trained on (a draw of the
    validation split), against a network of the base architecture that learns from the same k labels alone, and
    against the base models. Mean and spread over draws of the labels, measured on test items.

    Args:
        counts: numbers of labels, each at least the number of classes.
        draws: how often the labels are drawn.
        steps: iterates of the search.
        lr: learning rate of the search.
        scratch_steps: optimiser steps of the network that is trained from scratch.
        shown: the number of labels whose first draw is drawn as a path; by default the middle one of `counts`.
        task: whose labels; by default the first task's.

    Raises:
        ValueError: an option out of its range.
    """

    name: ClassVar[str] = "semi_supervised"
    of_answers: ClassVar[bool] = True
    counts: list[int] = field(default_factory=lambda: [10, 25, 50, 100, 500])
    draws: int = 10
    steps: int = 100
    lr: float = 0.03
    scratch_steps: int = 200
    shown: int | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be searched."""
        if not self.counts or sorted(set(self.counts)) != self.counts or self.counts[0] < 1:
            raise ValueError(f"counts is {self.counts}; give numbers of labels in increasing order.")
        check_at_least(1, self, "draws", "steps", "scratch_steps")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; it has to be above 0.")
        if self.shown is not None and self.shown not in self.counts:
            raise ValueError(f"shown is {self.shown}; choose one of counts, {self.counts}.")

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        run.need_answers(self.name)
        task = self.task or run.tasks[0]
        if task not in run.tasks:
            raise ValueError(f"no task {task!r}; the population has {', '.join(run.tasks)}.")
        held_out = len(run.loaded.data[task].val.labels)
        if self.counts[-1] > held_out:
            raise ValueError(f"counts asks for {self.counts[-1]} labels, and {task} has {held_out} validation items.")
        if self.counts[0] < (classes := run.task.network.classes[task]):
            raise ValueError(
                f"counts begins with {self.counts[0]} labels, and {task} has {classes} classes: ask for more."
            )
        theta, base = run.task.theta, run.base_accuracies[task]
        plane = plane_of(theta)
        origin = torch.zeros_like(theta[:1])
        found: Content = {
            "task": task,
            "dimensions": theta.shape[1],
            "start": float(answers_at(run.task.network, origin, task, run.test_batches).accuracy),
            "base_best": float(base.max()),
            "base_median": float(base.median()),
            "labels": {},
            "paths": {},
        }
        for count in self.counts:
            labelled = [self._labels(run, task, count, draw) for draw in range(self.draws)]
            searches = search_many(run.task.network, task, labelled, steps=self.steps, lr=self.lr)
            finals = torch.stack([search.final for search in searches])
            reached = answers_at(run.task.network, finals, task, run.test_batches).accuracy
            scratch = self._from_scratch(run, task, labelled)
            found["labels"][str(count)] = _spread("search", reached) | _spread("scratch", scratch)
            found["paths"][str(count)] = [plane.project(search.path).tolist() for search in searches]
        found["members"] = described(run.task.members, plane=plane.members)
        return found

    def _labels(self, run: FinishedRun, task: str, count: int, draw: int) -> TaskBatch:
        """The k items of one draw; draws are nested in k."""
        targets = run.loaded.data[task].val.labels
        return run.batch("val", task, draw_labels(targets, count, seed=draw))

    def _from_scratch(self, run: FinishedRun, task: str, labelled: Sequence[TaskBatch]) -> Tensor | None:
        """Test accuracy of networks of the first bundle's architecture; None where that cannot be built anew."""
        population = run.task.population
        bundle = next(b for b, t in zip(population.bundles, population.tasks, strict=True) if t == task)
        if not isinstance(bundle, Trainable):
            return None
        fresh = type(bundle).build(len(labelled), bundle.settings).to(run.device)
        fresh.initialise(range(len(labelled)))
        trained = train_from_scratch(fresh, labelled, steps=self.scratch_steps)
        return bundle_accuracy(trained, task, run.test_batches)

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """One path on the map of the first run, and accuracy against the number of labels, means over all runs."""
        first, everyone = rows[0][0], [result.content for row in rows for result in row]
        found = first.content
        counts: list[int] = found["options"]["counts"]
        shown = found["options"]["shown"] or counts[len(counts) // 2]
        background = None
        if first.folder.done(AccuracyMap.name) and not first.folder.newer_weights(AccuracyMap.name):
            background = panels_of(Result(first.folder, first.folder.read_result(AccuracyMap.name)))[0]
        search = LabelSearch(
            members=[member["plane"] for member in found["members"]],
            groups=[member["group"] for member in found["members"]],
            path=found["paths"][str(shown)][0],
            background=background,
            title=title_of(first),
            note=f"{found['options']['steps']} iterates on {shown} labels of {found['task']}",
            axis_name=axis_name(found["dimensions"]),
        )

        def curve(key: str) -> list[float]:
            values = [[one["labels"][str(count)].get(key, float("nan")) for one in everyone] for count in counts]
            return torch.tensor(values, dtype=torch.float64).mean(1).tolist()

        means = {
            key: sum(one[key] for one in everyone) / len(everyone) for key in ("base_best", "base_median", "start")
        }
        return label_search(
            search,
            LabelCurve(counts, curve("search"), curve("search_std"), curve("scratch"), curve("scratch_std"), **means),
        )


def _spread(name: str, accuracies: Tensor | None) -> Content:
    """Mean and standard deviation over draws; nothing where nothing was measured."""
    if accuracies is None:
        return {}
    found: Content = {name: float(accuracies.mean())}
    return found | ({f"{name}_std": float(accuracies.std())} if len(accuracies) > 1 else {})
