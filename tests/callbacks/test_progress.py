"""One line an epoch where no terminal shows a bar, and none where one does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import RichProgressBar

from callbacks import EpochLine
from datamodules import SyntheticSentimentDataModule
from dynamo.population import PopulationTask

Fit = Callable[..., Trainer]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What the callback has said so far."""
    monkeypatch.setattr(logging.getLogger("callbacks"), "propagate", True)  # `main` stops it
    caplog.set_level(logging.INFO, logger="callbacks.progress")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "callbacks.progress"]


def test_one_line_an_epoch(members: PopulationTask, fit: Fit, lines: Callable[[], list[str]]) -> None:
    fit(members, EpochLine(), epochs=3)
    first, _, last = lines()
    number = r"\d+\.\d{4}"
    assert re.fullmatch(rf"epoch 1/3  \d+ s  train/loss {number}  val/loss {number}  val/accuracy {number}", first)
    assert last.startswith("epoch 3/3")


def test_none_on_a_terminal_and_none_when_off(
    members: PopulationTask, fit: Fit, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(members, EpochLine(enabled=False), epochs=1)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    fit(members, EpochLine(), epochs=1)
    assert lines() == []


@pytest.mark.parametrize("leave", [False, True])
def test_bars_of_earlier_validations_are_forgotten(
    members: PopulationTask, data: SyntheticSentimentDataModule, leave: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    kept: list[tuple[int, int]] = []

    class Count(EpochLine):
        def on_train_epoch_end(self, trainer: Trainer, *others: object) -> None:
            assert isinstance(bar, RichProgressBar)
            assert bar.progress is not None
            bar.progress.refresh()  # draws the bars, which fills the caches of the columns
            super().on_train_epoch_end(trainer, *others)  # type: ignore[arg-type]
            caches = [len(vars(column)["_renderable_cache"]) for column in bar.progress.columns]
            kept.append((len(bar.progress.tasks), max(caches)))

    bar = RichProgressBar(leave=leave)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=6,
        limit_train_batches=1,
        val_check_interval=1,
        num_sanity_val_steps=1,
        logger=False,
        callbacks=[bar, Count()],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(members, datamodule=data)
    assert len(kept) == 6
    assert max(tasks for tasks, _ in kept) <= 3  # training, and the latest validation
    assert max(cached for _, cached in kept) <= 3
