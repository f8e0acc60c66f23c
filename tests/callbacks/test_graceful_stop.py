"""What a signal does to a run, seen from inside; whole runs that get signals: test_interruption.py."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks import GracefulStop
from dynamo.population import PopulationTask

Fit = Callable[..., Trainer]


class Send(Callback):
    """Sends this process a signal after so many batches."""

    def __init__(self, number: int, batches: int) -> None:
        self.number, self.batches = number, batches

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if trainer.global_step == self.batches:
            os.kill(os.getpid(), self.number)


def stopped_at(tmp_path: Path) -> int:
    step: int = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"]
    return step


@pytest.mark.parametrize("number", GracefulStop.signals)
def test_the_run_ends_after_the_step_and_the_signals_are_given_back(
    fit: Fit, members: PopulationTask, tmp_path: Path, number: int
) -> None:
    before = [signal.getsignal(number) for number in GracefulStop.signals]
    with pytest.raises(SystemExit) as stopped:
        fit(members, GracefulStop(), Send(number, 3), epochs=4)
    assert stopped.value.code == 128 + number
    assert stopped_at(tmp_path) == 3
    # Lightning has put back what it found, and that hands the next signal on to Python.
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    for one, handler in zip(GracefulStop.signals, before, strict=True):
        signal.signal(one, handler)


def test_a_run_that_comes_to_its_end_gives_the_signals_back(fit: Fit, members: PopulationTask) -> None:
    before = [signal.getsignal(number) for number in GracefulStop.signals]
    fit(members, GracefulStop())
    assert [signal.getsignal(number) for number in GracefulStop.signals] == before


def test_turned_off_it_leaves_signals_alone(fit: Fit, members: PopulationTask) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    trainer = fit(members, GracefulStop(enabled=False), Send(signal.SIGUSR1, 1))
    signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    assert trainer.global_step == 4


@pytest.mark.parametrize(
    ("scontrol", "said"),
    [
        ("exit 0", "Job 5_3 is queued again"),
        ("echo no such job >&2; exit 1", "requeue 5_3 failed (no such job): submit the job again"),
        ("exit 7", "failed (exit code 7)"),
        (None, "failed ([Errno 2] No such file or directory: 'scontrol')"),
    ],
)
def test_a_job_asks_to_be_queued_again(
    fit: Fit,
    members: PopulationTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    scontrol: str | None,
    said: str,
) -> None:
    for name, value in {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(tmp_path))
    if scontrol is not None:
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{scontrol}\n")
        (tmp_path / "scontrol").chmod(0o755)
    logging.getLogger("callbacks").propagate = True
    before = [signal.getsignal(number) for number in GracefulStop.signals]
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit):
        fit(members, GracefulStop(), Send(signal.SIGUSR1, 1))
    for one, handler in zip(GracefulStop.signals, before, strict=True):
        signal.signal(one, handler)
    assert said in caplog.text
    assert stopped_at(tmp_path) == 1  # whether or not the job is queued again
