"""The map is that of the library on the same items, relative to the best base model; lambda = 0 has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import AccuracyMap
from callbacks.accuracy_map import MapOfAccuracy
from datamodules import DigitsDataModule, SyntheticSentimentDataModule
from dynamo.analysis import accuracy_at, bundle_accuracy
from dynamo.analysis.plane import plane_grid
from dynamo.meta import MetaTask
from dynamo.population import PopulationTask

Fit = Callable[..., Trainer]


class Kept(AccuracyMap):
    """Keeps the answers."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.answers: list[MapOfAccuracy] = []

    def draw(self, trainer: Trainer, task: MetaTask, answer: MapOfAccuracy) -> None:
        self.answers.append(answer)
        super().draw(trainer, task, answer)


def test_the_map_is_that_of_the_same_items(
    task: MetaTask, data: SyntheticSentimentDataModule, fit: Fit, tmp_path: Path
) -> None:
    callback = Kept(size=3, items=40, chunk=4)
    fit(task, callback)
    assert len(callback.answers) == 2
    answer = callback.answers[-1]
    batch = [{"synthetic": data.batch("val", "synthetic", data.drawn("val", "synthetic", 40))}]
    best = max(float(bundle_accuracy(bundle, "synthetic", batch).max()) for bundle in task.population.bundles)
    grid = plane_grid(task.theta, 3)
    expected = accuracy_at(task.network, grid.points, "synthetic", batch) / best
    torch.testing.assert_close(answer.relative, expected)
    middle = accuracy_at(task.network, task.theta.mean(0, keepdim=True), "synthetic", batch) / best
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    assert events.Scalars("map/accuracy_maximum")[-1].value == pytest.approx(float(expected.max()), abs=1e-6)
    assert events.Scalars("map/accuracy_mean_theta")[-1].value == pytest.approx(float(middle), abs=1e-6)
    assert len(events.Images("map/2_accuracy")) == 2
    assert 0 < events.Scalars("cost/accuracy_map")[-1].value < 1


def test_images_have_a_map(image_task: MetaTask, digits: DigitsDataModule, fit: Fit) -> None:
    callback = Kept(size=2, items=40)
    fit(image_task, callback, on=digits)
    batch = [{"digits": digits.batch("val", "digits", digits.drawn("val", "digits", 40))}]
    best = max(float(bundle_accuracy(bundle, "digits", batch).max()) for bundle in image_task.population.bundles)
    expected = accuracy_at(image_task.network, plane_grid(image_task.theta, 2).points, "digits", batch) / best
    torch.testing.assert_close(callback.answers[-1].relative, expected)


@pytest.mark.parametrize(("option", "value", "said"), [("output_weight", 0.0, "lambda"), ("dimensions", 1, "plane")])
def test_keeps_still_where_there_is_no_map(
    data: SyntheticSentimentDataModule,
    task: MetaTask,
    fit: Fit,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    option: str,
    value: Any,  # noqa: ANN401
    said: str,
) -> None:
    other = MetaTask(str(tmp_path / "population"), data.vocab_size, **{option: value})
    callback = Kept()
    with caplog.at_level("INFO", logger="callbacks.base"):
        fit(other, callback)
    assert callback.answers == []
    (message,) = [r.getMessage() for r in caplog.records if "accuracy_map shows nothing" in r.getMessage()]
    assert said in message


def test_inert_for_a_population(members: PopulationTask, fit: Fit, tmp_path: Path) -> None:
    fit(members, AccuracyMap())
    assert not (tmp_path / "run/figures").exists()


@pytest.mark.parametrize("options", [{"size": 1}, {"items": 0}, {"chunk": 0}, {"margin": -1.0}])
def test_refuses_what_cannot_be_computed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"accuracy_map\.{next(iter(options))}"):
        AccuracyMap(**options)
