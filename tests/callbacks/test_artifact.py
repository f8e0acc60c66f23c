"""The folder holds the weights that training ended with, and accuracies of these and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from callbacks import PopulationArtifact
from callbacks.artifact import same_weights
from datamodules import SyntheticSentimentDataModule
from dynamo.meta import MetaTask
from dynamo.population import Population, PopulationTask

Fit = Callable[..., Trainer]


def test_the_population_is_what_was_trained(
    members: PopulationTask, data: SyntheticSentimentDataModule, fit: Fit, tmp_path: Path
) -> None:
    trainer = fit(members, PopulationArtifact(), epochs=2)
    folder = tmp_path / "run/population"
    found = Population.load(folder)
    assert same_weights(folder, members)
    assert found.fingerprint == data.fingerprint
    assert found.class_names == data.classes
    assert found.config["steps"] == 4
    assert [(m.name, m.epoch) for m in found.members] == [(m.name, 2) for m in members.members]
    assert [m.val_accuracy for m in found.members] == pytest.approx(members.accuracies["val"].tolist())
    trainer.test(members, datamodule=data, verbose=False)
    tested = Population.load(folder).members
    assert [m.test_accuracy for m in tested] == pytest.approx(members.accuracies["test"].tolist())
    assert [m.val_accuracy for m in tested] == [m.val_accuracy for m in found.members]


def test_other_weights_leave_the_manifest_alone(
    members: PopulationTask, data: SyntheticSentimentDataModule, fit: Fit, tmp_path: Path
) -> None:
    trainer = fit(members, PopulationArtifact())
    with torch.no_grad():
        next(members.parameters()).add_(1)
    assert not same_weights(tmp_path / "run/population", members)
    trainer.test(members, datamodule=data, verbose=False)
    assert {m.test_accuracy for m in Population.load(tmp_path / "run/population").members} == {None}


def test_a_missing_population_is_no_population(members: PopulationTask, tmp_path: Path) -> None:
    assert not same_weights(tmp_path / "none", members)


def test_off_and_inert(members: PopulationTask, task: MetaTask, fit: Fit, tmp_path: Path) -> None:
    fit(members, PopulationArtifact(enabled=False), epochs=1)
    fit(task, PopulationArtifact(), epochs=1)
    assert not (tmp_path / "run/population").exists()
