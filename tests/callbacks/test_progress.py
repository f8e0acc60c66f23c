"""One line an epoch where no terminal shows a bar, and none where one does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest
from pytorch_lightning import Trainer

from callbacks import EpochLine
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
