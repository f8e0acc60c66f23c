"""Does training from Python leave nothing behind but what was trained?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from datamodules import SyntheticSentimentDataModule
from dynamo import MemberGroup, MetaTask, PopulationTask
from dynamo.meta import RecurrentMetaModel
from dynamo.quiet import quiet_trainer


@pytest.fixture(autouse=True)
def _lightning_speaks_again() -> Iterator[None]:
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    yield
    logger.setLevel(level)


def test_population_and_map_are_trained_without_a_file_or_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = SyntheticSentimentDataModule(train_size=300, test_size=50)
    groups = [MemberGroup(name, 2, hidden_size=4, embedding_size=3) for name in ("a", "b")]
    task = PopulationTask(groups, data.vocab_size, data.classes)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(task, data)
    trainer.test(task, data, verbose=False)
    population = task.population()
    assert population.fingerprint == data.fingerprint
    assert [member.epoch for member in population.members] == [1] * 4
    assert all(member.test_accuracy is not None for member in population.members)
    network = partial(RecurrentMetaModel, hidden_size=8, embedding_size=4)
    meta = MetaTask(population, data.vocab_size, network=network, dimensions=2)
    quiet_trainer(max_steps=3).fit(meta, data)
    assert bool((meta.theta != 0).any(1).all())
    assert torch.isfinite(meta.theta).all()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_an_endless_training_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing says when to stop"):
        quiet_trainer()
