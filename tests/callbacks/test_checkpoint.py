"""`last` is the last, `best` is the best, and neither stands in for the other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from callbacks import RunCheckpoint


class Falling(LightningModule):
    """Counts its steps in a weight, and logs what it is told to."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.losses = losses

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.weight  # SGD with lr 1 adds 1 at every step

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.losses[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def train(tmp_path: Path, losses: list[float], callback: RunCheckpoint, **options: Any) -> None:  # noqa: ANN401
    items = torch.utils.data.DataLoader(torch.zeros(3, 1))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=len(losses),
        default_root_dir=tmp_path,
        callbacks=[callback],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        **options,
    )
    trainer.fit(Falling(losses), items, items)


def steps(tmp_path: Path, name: str) -> tuple[int, float]:
    """Step count of a checkpoint, and the weight that counts along."""
    found = torch.load(tmp_path / f"checkpoints/{name}.ckpt", weights_only=True)
    return found["global_step"], float(found["state_dict"]["weight"])


@pytest.mark.parametrize(
    ("losses", "best"), [([3, 2, 1], 9), ([3, 1, 2], 6), ([1, 2, 3], 3), ([2, 2, 2], 3), ([2, float("nan"), 3], 3)]
)
def test_best_is_the_first_smallest_and_last_the_last(tmp_path: Path, losses: list[float], best: int) -> None:
    train(tmp_path, losses, RunCheckpoint())
    assert steps(tmp_path, "best") == (best, best)
    assert steps(tmp_path, "last") == (9, 9)


def test_no_best_without_the_metric(tmp_path: Path) -> None:
    train(tmp_path, [1, 2], RunCheckpoint(monitor="val/nothing"))
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(("accumulate", "written"), [(1, [2, 3, 4, 6]), (2, [2, 4])])
def test_every_so_many_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int, written: list[int]
) -> None:
    """Three batches an epoch: 3 steps, or with 2 accumulated for each, 2 (the last from one batch)."""
    found: list[int] = []
    save = Trainer.save_checkpoint
    monkeypatch.setattr(
        Trainer, "save_checkpoint", lambda self, *a, **k: (found.append(self.global_step), save(self, *a, **k))[1]
    )
    callback = RunCheckpoint(monitor="none", every_n_train_steps=2)
    train(tmp_path, [1, 1], callback, accumulate_grad_batches=accumulate)
    assert found == written


@pytest.mark.parametrize(("minutes", "written"), [(1.0, [2, 3, 5, 6]), (0.9, [1, 2, 3, 4, 5, 6]), (0.0, [3, 6])])
def test_every_so_many_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, written: list[int]
) -> None:
    """A step takes 59 seconds here; the ends of the epoch and of training are written as well."""
    found: list[int] = []
    save, step, now = Trainer.save_checkpoint, Falling.training_step, [0.0]

    def slow_step(self: Falling, batch: Tensor, batch_idx: int) -> Tensor:
        now[0] += 59
        return step(self, batch, batch_idx)

    monkeypatch.setattr("callbacks.checkpoint.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(Falling, "training_step", slow_step)
    monkeypatch.setattr(
        Trainer, "save_checkpoint", lambda self, *a, **k: (found.append(self.global_step), save(self, *a, **k))[1]
    )
    train(tmp_path, [1, 1], RunCheckpoint(monitor="none", every_n_minutes=minutes))
    assert found == written


def test_a_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    train(tmp_path, [1], RunCheckpoint(), fast_dev_run=True)
    assert not (tmp_path / "checkpoints").exists()


def test_a_resumed_run_knows_the_best_so_far() -> None:
    callback, other = RunCheckpoint(), RunCheckpoint()
    callback.best = 0.25
    other.load_state_dict(callback.state_dict())
    assert other.best == 0.25


def test_refuses_a_negative_interval() -> None:
    for option in ({"every_n_train_steps": -1}, {"every_n_minutes": -0.5}, {"every_n_minutes": float("nan")}):
        with pytest.raises(ValueError, match=f"checkpoint.{next(iter(option))} is .*; 0 turns it off"):
            RunCheckpoint(**option)  # type: ignore[arg-type]
