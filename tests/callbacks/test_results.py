"""A stage's file is there when, and only when, the stage came to its end with the weights that are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, Trainer

import dynamo
from callbacks import StageResults
from datamodules import SyntheticSentimentDataModule
from dynamo.population import PopulationTask

Fit = Callable[..., Trainer]
HOUR = timedelta(hours=1)


class PowerCut(Callback):
    """Fails at the end of the first epoch."""

    def on_train_epoch_end(self, *_: object) -> None:
        raise RuntimeError("power cut")


def test_numbers_of_fit_and_test(
    members: PopulationTask, data: SyntheticSentimentDataModule, fit: Fit, tmp_path: Path
) -> None:
    trainer = fit(members, StageResults(), epochs=2)
    found = json.loads((tmp_path / "run/results/fit.json").read_text())
    assert (found["epochs"], found["steps"], found["torch"]) == (2, 4, torch.__version__)
    assert 0 < found["seconds"] < 60
    assert (found["lightning"], found["dynamo"]) == (version("pytorch-lightning"), dynamo.__version__)
    assert abs(datetime.now(UTC) - datetime.strptime(found["finished"], "%Y-%m-%d %H:%M %Z").replace(tzinfo=UTC)) < HOUR
    expected = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert found["metrics"] == pytest.approx(expected)
    trainer.test(members, datamodule=data, verbose=False)
    tested = json.loads((tmp_path / "run/results/test.json").read_text())
    assert tested["metrics"]["test/accuracy"] == pytest.approx(float(members.accuracies["test"].mean()))
    assert (tmp_path / "run/results/fit.json").is_file()


def test_training_that_goes_on_takes_older_numbers_away(members: PopulationTask, fit: Fit, tmp_path: Path) -> None:
    results = tmp_path / "run/results"
    results.mkdir(parents=True)
    (results / "embedding.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RuntimeError, match="power cut"):
        fit(members, StageResults(), PowerCut())
    assert list(results.iterdir()) == []


def test_off(members: PopulationTask, fit: Fit, tmp_path: Path) -> None:
    fit(members, StageResults(enabled=False), epochs=1)
    assert not (tmp_path / "run/results").exists()
