"""How good is the network at every point of the plane? The accuracy map, coarse, while the map is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from callbacks.base import MapCallback, NothingToShowError, held_out, show, writer
from dynamo.analysis.accuracy_map import Answers, answers_at, relative_accuracy
from dynamo.analysis.averaging import base_accuracies
from dynamo.analysis.plane import PlaneAxes, PlaneGrid, plane_grid, plane_of
from dynamo.figures.plane_map import PlaneMap, plane_map
from dynamo.meta import MetaTask
from dynamo.population.ranks import rows_of_ranks
from dynamo.types import TaskBatch


@dataclass(frozen=True)
class MapOfAccuracy:
    """What one epoch has to say.

    Attributes:
        plane: the plane of the grid.
        grid: its points.
        relative: accuracy / best base model's at every point of the grid `[P]`.
        mean_theta: the same at the mean of all theta.
    """

    plane: PlaneAxes
    grid: PlaneGrid
    relative: Tensor
    mean_theta: float


class AccuracyMap(MapCallback):
    """How good is the network at every point of the plane, beside the best base model (Figure 6 of the paper)?

    Logs the figure `map/2_accuracy` (`map_accuracy.png`: relative accuracy over a grid, base models as points, X at
    the maximum) and the scalars `map/accuracy_maximum` and `map/accuracy_mean_theta`, both relative to the best base
    model's. X is chosen on the items it is measured on; `dynamo analyze accuracy_map` chooses it on others. Hook: the
    end of a training epoch. Many processes share the points. Cost: `size`^2 networks over `items` validation items,
    and a picture.

    With lambda = 0 nothing trains the readout, and there is no map.

    Args:
        every_n_epochs: how often; 0 turns it off.
        size: points along each axis.
        items: validation items of each task.
        margin: what is shown around the members, as a share of their extent.
        chunk: points that advance together; bounds memory.

    Raises:
        ValueError: an option is out of its range.

    Examples:
        >>> from callbacks import AccuracyMap
        >>> AccuracyMap(every_n_epochs=5, size=9).size ** 2  # networks that are measured, every fifth epoch
        81
        >>> AccuracyMap(size=1)
        Traceback (most recent call last):
        ValueError: accuracy_map.size is 1; it has to be at least 2.
    """

    name: ClassVar[str] = "accuracy_map"

    def __init__(
        self, every_n_epochs: int = 1, size: int = 7, items: int = 80, margin: float = 0.25, chunk: int = 64
    ) -> None:
        super().__init__(every_n_epochs)
        for option, value, least in (
            ("size", size, 2),
            ("items", items, 1),
            ("chunk", chunk, 1),
            ("margin", margin, 0),
        ):
            if value < least:
                raise ValueError(f"{self.name}.{option} is {value}; it has to be at least {least}.")
        self.size, self.items, self.margin, self.chunk = size, items, margin, chunk
        self._best_base: dict[str, float] = {}  # the base models are frozen: once is enough

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what was measured of another population."""
        super().on_train_start(trainer, pl_module)
        self._best_base = {}

    def compute(self, trainer: Trainer, task: MetaTask) -> MapOfAccuracy:
        """The answers at the grid's points; every rank takes its share of the points."""
        if task.output_weight == 0:
            raise NothingToShowError("with output_weight (lambda) 0 the readout is not trained")
        batch = held_out(trainer, task, self.items)
        if any(int(items.targets.min()) < 0 for items in batch.values()):
            raise NothingToShowError("the items have no labels, by which answers could be right")
        if not self._best_base:
            accuracies = base_accuracies(task.population, [batch])
            self._best_base = {name: float(own.max()) for name, own in accuracies.items()}
        if 0.0 in self._best_base.values():
            raise NothingToShowError(f"no base model has a right answer to {self.items} items; take more of them")
        try:
            plane, grid = plane_of(task.theta), plane_grid(task.theta, self.size, self.margin)
        except ValueError as error:
            raise NothingToShowError(str(error)) from error
        points = torch.cat([grid.points, task.theta.mean(0, keepdim=True)])
        answers = {name: self._answers(trainer, task, points, name, batch) for name in batch}
        relative = relative_accuracy(answers, self._best_base)
        return MapOfAccuracy(plane, grid, relative[:-1], float(relative[-1]))

    def _answers(
        self, trainer: Trainer, task: MetaTask, points: Tensor, name: str, batch: Mapping[str, TaskBatch]
    ) -> Answers:
        """The counts at all points, each counted by one rank."""
        mine = slice(trainer.global_rank, None, trainer.world_size)
        part = answers_at(task.network, points[mine], name, [dict(batch)], self.chunk)
        if trainer.world_size == 1:
            return part
        whole = torch.zeros(len(points), 2, dtype=torch.float64)
        whole[mine] = torch.stack([part.right.double(), part.log_likelihood], dim=1)
        rows = rows_of_ranks(whole.flatten().to(task.device))
        total = rows.view(-1, *whole.shape).sum(0)  # every point was counted by one rank: exact
        return Answers(total[:, 0].long(), total[:, 1], part.items)

    def log_numbers(self, trainer: Trainer, task: MetaTask, answer: MapOfAccuracy) -> None:
        """The scalars."""
        board = writer(trainer)
        if board is not None:
            board.add_scalar("map/accuracy_maximum", float(answer.relative.max()), global_step=trainer.global_step)
            board.add_scalar("map/accuracy_mean_theta", answer.mean_theta, global_step=trainer.global_step)

    def draw(self, trainer: Trainer, task: MetaTask, answer: MapOfAccuracy) -> None:
        """The map."""
        top = int(answer.relative.argmax())
        panel = PlaneMap(
            x=answer.grid.x,
            y=answer.grid.y,
            values=answer.relative.view(self.size, self.size),
            members=answer.plane.members,
            groups=[member.group for member in task.members],
            best=answer.plane.project(answer.grid.points[top]),
            title=f"epoch {trainer.current_epoch + 1}",
            note=f"{self.items} validation items; maximum {float(answer.relative[top]):.3f}",
            label="accuracy / best base model's",
            centre=1.0,
            axis_name="θ" if answer.plane.axes is None else "PC",
        )
        show(trainer, "map/accuracy", plane_map(panel))
