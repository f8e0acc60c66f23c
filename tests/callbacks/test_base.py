"""When a map callback asks, what it logs of its cost, and when it keeps still."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from matplotlib.figure import Figure
from pytorch_lightning import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.base import MapCallback, show
from dynamo.meta import MetaTask
from dynamo.population import Member, Population, PopulationTask, ResidualBundle

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


def test_one_and_three_processes_see_the_same_map(task: MetaTask, tmp_path: Path) -> None:
    """No count of items or points divides by 3, and of two items one process gets none.

    `several_processes.py` is what each of them runs.
    """
    script = Path(__file__).with_name("several_processes.py")
    task.population.save(tmp_path / "words")
    bundles = [ResidualBundle(2, [4, 6, 8, width], [1, 1, 1, 1], 2) for width in (9, 10)]
    for bundle in bundles:
        bundle.initialise(bundle.widths[2:])
    members = [[Member(f"{group}-{i}", group, "digits") for i in range(2)] for group in ("narrow", "wide")]
    Population(bundles, members).save(tmp_path / "images")
    runpy.run_path(str(script))["main"](tmp_path, tmp_path / "1", 1)
    words = [sys.executable, str(script), str(tmp_path), str(tmp_path / "3"), "3"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "MASTER_ADDR": "127.0.0.1"}
    run = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    for kind in ("words", "images"):
        one, three = (torch.load(tmp_path / f"{count}/{kind}/answers.pt", weights_only=True) for count in (1, 3))
        assert one["relative"].unique().numel() > 1
        for name in ("relative", "mean_theta"):  # counts: the same to the last bit
            assert three[name].equal(one[name])
        for name in one.keys() - {"relative", "mean_theta"}:  # of float32 states, whose last bits depend on the batch
            torch.testing.assert_close(three[name], one[name], atol=1e-6, rtol=0, msg=name)
        told = [json.loads((tmp_path / f"{count}/{kind}/results/fidelity_val.json").read_text()) for count in (1, 3)]
        assert 0 < told[0]["mean"]["agreement"] < 1
        for mine, other in zip(*(table["members"] for table in told), strict=True):
            for key in ("name", "agreement", "accuracy", "original_accuracy"):
                assert mine.pop(key) == other.pop(key)
            assert mine == pytest.approx(other, rel=1e-5, abs=1e-6)
