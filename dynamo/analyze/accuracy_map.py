"""`dynamo analyze accuracy_map`: how good is the network at every point of the plane (Figure 6)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dynamo.analysis.accuracy_map import Answers, answers_at, best_point, relative_accuracy
from dynamo.analysis.plane import plane_grid, plane_of
from dynamo.analyze.base import Analysis, Content, Result, axis_name, check_at_least, described, title_of
from dynamo.analyze.run import Batches, FinishedRun
from dynamo.figures.plane_map import PlaneMap, plane_map, plane_map_row


@dataclass(frozen=True)
class AccuracyMap(Analysis):
    """How good is the network at every point of the plane, and is there a better one than any base model (Figure 6)?

    Test accuracy of the meta-model over a grid of the plane, relative to the best base model's. The X is chosen on
    held-out items, which nothing was trained on: the best point of a coarser grid and of theta itself, refined by
    a local search in all dimensions; its accuracy is then measured on test items. The largest value of the map
    itself is given too, and is optimistic, since it is chosen on the items that it is measured on.

    Args:
        size: points along each axis of the map.
        search_size: points along each axis of the grid that the search for X begins on.
        margin: what the map shows around the members, as a share of their extent.
        rounds: of the local search.
        candidates: points per round of the local search.
        chunk: points that advance together; bounds memory.

    Raises:
        ValueError: an option out of its range.
    """

    name: ClassVar[str] = "accuracy_map"
    of_answers: ClassVar[bool] = True
    size: int = 21
    search_size: int = 9
    margin: float = 0.25
    rounds: int = 6
    candidates: int = 16
    chunk: int = 64

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        check_at_least(2, self, "size", "search_size")
        check_at_least(1, self, "candidates", "chunk")
        check_at_least(0, self, "rounds", "margin")

    def numbers(self, run: FinishedRun) -> Content:
        """See `Analysis.numbers`."""
        run.need_answers(self.name)
        theta = run.task.theta
        plane, grid = plane_of(theta), plane_grid(theta, self.size, self.margin)
        best_base = {task: float(base.max()) for task, base in run.base_accuracies.items()}
        on_map = self._answers(run, grid.points, run.test_batches)
        relative = relative_accuracy(on_map, best_base)
        best = self._search(run)
        at_best = self._answers(run, best.unsqueeze(0), run.test_batches)
        at_members = self._answers(run, theta, run.test_batches)
        top = int(relative.argmax())
        found: Content = {
            "map_maximum": float(relative[top]),
            "map_maximum_at": plane.project(grid.points[top]).tolist(),
            "x_relative": float(relative_accuracy(at_best, best_base)),
            "emulators_best_relative": float(relative_accuracy(at_members, best_base).max()),
            "x_theta": best.tolist(),
            "x_plane": plane.project(best).tolist(),
            "tasks": {
                task: {
                    "x_accuracy": float(at_best[task].accuracy),
                    "base_best": best_base[task],
                    "base_median": float(run.base_accuracies[task].median()),
                    "map_maximum": float(on_map[task].accuracy.max()),
                    "items": on_map[task].items,
                    "right": on_map[task].right.view(self.size, self.size).tolist(),
                }
                for task in run.tasks
            },
            "x": grid.x.tolist(),
            "y": grid.y.tolist(),
        }
        found["members"] = described(run.task.members, plane=plane.members)
        return found

    def _answers(self, run: FinishedRun, points: Tensor, batches: Batches) -> Mapping[str, Answers]:
        """The answers of every task at these points."""
        return {task: answers_at(run.task.network, points, task, batches, self.chunk) for task in run.tasks}

    def _search(self, run: FinishedRun) -> Tensor:
        """X, chosen on held-out items."""
        theta, held_out = run.task.theta, run.held_out_batches
        points = torch.cat([plane_grid(theta, self.search_size, self.margin).points, theta])
        answers = self._answers(run, points, held_out)
        best_base = {task: float(answers[task].accuracy.max()) for task in run.tasks}
        search = best_point(
            run.task.network,
            theta,
            points,
            answers,
            best_base,
            held_out,
            rounds=self.rounds,
            candidates=self.candidates,
            chunk=self.chunk,
        )
        return search.point

    def draw(self, rows: Sequence[Sequence[Result]]) -> Figure:
        """The map of one run; of several, the maps beside each other."""
        panels = [panel for row in rows for result in row for panel in panels_of(result)]
        return plane_map(panels[0]) if len(panels) == 1 else plane_map_row(panels)


def panels_of(result: Result) -> list[PlaneMap]:
    """The map of relative accuracy; with several tasks also that of each."""
    found = result.content
    shares = {
        task: torch.tensor(one["right"]).double() / one["items"] / one["base_best"]
        for task, one in found["tasks"].items()
    }
    maps = {"": torch.stack(list(shares.values())).mean(0)} | (shares if len(shares) > 1 else {})
    where = {"": title_of(result)} | {task: f"{task} alone" for task in shares}
    verdict = " and ".join(f"{one['x_accuracy']:.3f} ({one['base_best']:.3f})" for one in found["tasks"].values())
    return [
        PlaneMap(
            x=found["x"],
            y=found["y"],
            values=values,
            members=[member["plane"] for member in found["members"]],
            groups=[member["group"] for member in found["members"]],
            best=found["x_plane"],
            title=where[task],
            note=f"accuracy at × (best base model): {verdict}" if not task else None,
            label="test accuracy / best base model's",
            centre=1.0,
            axis_name=axis_name(len(found["x_theta"])),
        )
        for task, values in maps.items()
    ]
