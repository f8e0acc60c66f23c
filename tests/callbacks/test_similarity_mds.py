"""The distances are those of the library on the same items; other runs and maps of one point keep it still."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import SimilarityMDS
from callbacks.similarity_mds import Similarities
from datamodules import DigitsDataModule, SyntheticSentimentDataModule
from dynamo.analysis.mds import smacof_mds
from dynamo.analysis.similarity import distance_correlation, pairwise
from dynamo.analysis.states import emulator_states, population_states
from dynamo.meta import MetaTask
from dynamo.population import PopulationTask

Fit = Callable[..., Trainer]


class Kept(SimilarityMDS):
    """Keeps the answers, and the map that they are about."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.answers: list[Similarities] = []
        self.theta: list[torch.Tensor] = []

    def draw(self, trainer: Trainer, task: MetaTask, answer: Similarities) -> None:
        self.answers.append(answer)
        self.theta.append(task.theta.clone())
        super().draw(trainer, task, answer)


def test_the_stages_of_images_are_averaged(image_task: MetaTask, digits: DigitsDataModule, fit: Fit) -> None:
    callback = Kept(items=20)
    fit(image_task, callback, on=digits)
    answer = callback.answers[-1]
    batch = {"digits": digits.batch("val", "digits", digits.drawn("val", "digits", 20))}
    states = population_states(image_task.population, batch)
    emulators = emulator_states(image_task.network, image_task.theta, batch)
    each = torch.stack([pairwise(stage) for stage in states])
    assert len(each) == 4
    assert float((each[0] - each[3]).abs().max()) > 0.1
    torch.testing.assert_close(answer.distances, each.mean(0), atol=1e-6, rtol=0)
    own = [[pairwise([a, b])[0, 1] for a, b in zip(*both, strict=True)] for both in zip(states, emulators, strict=True)]
    torch.testing.assert_close(answer.emulators, torch.tensor(own).mean(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("measure", ["svcca", "procrustes"])
def test_the_distances_are_those_of_the_same_items(
    task: MetaTask,
    data: SyntheticSentimentDataModule,
    fit: Fit,
    tmp_path: Path,
    measure: Any,  # noqa: ANN401
) -> None:
    callback = Kept(items=20, measure=measure)
    fit(task, callback)
    assert len(callback.answers) == 2
    answer = callback.answers[-1]
    batch = {"synthetic": data.batch("val", "synthetic", data.drawn("val", "synthetic", 20))}
    (states,) = population_states(task.population, batch)
    expected = pairwise(states, measure)
    torch.testing.assert_close(answer.distances, expected, atol=1e-6, rtol=0)
    (emulators,) = emulator_states(task.network, task.theta, batch)
    own = [pairwise([a, b], measure)[0, 1] for a, b in zip(states, emulators, strict=True)]
    torch.testing.assert_close(answer.emulators, torch.stack(own), atol=1e-6, rtol=0)
    torch.testing.assert_close(answer.scaled.coordinates, smacof_mds(expected).coordinates, atol=1e-4, rtol=0)
    theta = callback.theta[-1].double()
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    found = {tag: events.Scalars(f"similarity/{tag}")[-1].value for tag in ("theta_r", "emulators", "emulators_worst")}
    assert found["theta_r"] == pytest.approx(
        distance_correlation(answer.distances, torch.cdist(theta, theta), 10).pearson, abs=1e-5
    )
    assert found["emulators"] == pytest.approx(float(torch.stack(own).mean()), abs=1e-5)
    assert found["emulators_worst"] == pytest.approx(float(torch.stack(own).max()), abs=1e-5)
    assert len(events.Images("map/3_similarity")) == 2
    assert 0 < events.Scalars("cost/similarity_mds")[-1].value < 1


def test_too_few_samples_do_not_stop_a_training(
    task: MetaTask, fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = Kept(items=2, variance=1.0)
    with caplog.at_level("INFO", logger="callbacks.base"):
        trainer = fit(task, callback)
    assert trainer.current_epoch == 2
    assert callback.answers == []
    said = [record.getMessage() for record in caplog.records if "similarity_mds" in record.getMessage()]
    assert len(said) == 1  # once, not every epoch
    assert "samples" in said[0]
    assert "similarity_mds.items is 2" in said[0]


def test_inert_for_a_population(members: PopulationTask, fit: Fit, tmp_path: Path) -> None:
    fit(members, SimilarityMDS())
    assert not (tmp_path / "run/figures").exists()


@pytest.mark.parametrize("options", [{"items": 0}, {"variance": 0.0}, {"variance": 1.5}])
def test_refuses_what_cannot_be_measured(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="similarity_mds"):
        SimilarityMDS(**options)
