"""When a map callback asks, what it logs of its cost, and when it keeps still."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from matplotlib.figure import Figure
from pytorch_lightning import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.base import MapCallback, show
from dynamo.meta import MetaTask
from dynamo.population import PopulationTask

Fit = Callable[..., Trainer]


class Asking(MapCallback):
    """Notes the epochs it was asked about."""

    name: ClassVar[str] = "asking"

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__(every_n_epochs)
        self.asked: list[int] = []
        self.drawn: list[int] = []
        self.training: list[bool] = []

    def compute(self, trainer: Trainer, task: MetaTask) -> int:
        self.asked.append(trainer.current_epoch)
        self.training.append(task.network.training)
        return trainer.current_epoch

    def draw(self, trainer: Trainer, task: MetaTask, answer: int) -> None:
        self.drawn.append(answer)
        show(trainer, "asking/twice", Figure())


@pytest.mark.parametrize(("every", "epochs"), [(0, []), (1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (9, [4])])
def test_asks_every_so_many_epochs_and_at_the_last(task: MetaTask, fit: Fit, every: int, epochs: list[int]) -> None:
    callback = Asking(every)
    fit(task, callback, epochs=5)
    assert callback.asked == callback.drawn == epochs
    assert callback.training == [False] * len(epochs)  # the network is asked as it will be used
    assert task.network.training


def test_logs_its_share_of_the_epoch_and_its_picture(task: MetaTask, fit: Fit, tmp_path: Path) -> None:
    fit(task, Asking(), epochs=2)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    costs = events.Scalars("cost/asking")
    assert [cost.step for cost in costs] == [2, 4]
    assert all(0 < cost.value <= 1 for cost in costs)
    assert [image.step for image in events.Images("asking/twice")] == [2, 4]
    assert (tmp_path / "run/figures/asking_twice.png").is_file()


def test_keeps_still_for_a_population(members: PopulationTask, fit: Fit) -> None:
    callback = Asking()
    fit(members, callback)
    assert callback.asked == []


def test_refuses_a_negative_interval() -> None:
    with pytest.raises(ValueError, match="0 turns it off"):
        Asking(-1)
