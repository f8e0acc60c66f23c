"""From where can an interrupted run go on, and which weights were the best? `last.ckpt` and `best.ckpt`."""

from __future__ import annotations

import math
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from callbacks.base import run_folder


class RunCheckpoint(Checkpoint):
    """From where can the run go on, and which weights were the best?

    Writes `checkpoints/last.ckpt` at the end of every epoch and, if asked to, every so many steps; and
    `checkpoints/best.ckpt` after a validation in which `monitor` fell below everything before. (Lightning's
    ModelCheckpoint writes its "last" only when it also writes a best one: there `last` is the best epoch.)
    Hooks: the end of training batches, of validation, of training epochs. Cost: one write of all weights.

    Args:
        monitor: the smaller the better; a run that does not log it has no `best.ckpt`.
        every_n_train_steps: how often `last` is written between the ends of epochs, in optimiser steps; 0 for never.

    Raises:
        ValueError: `every_n_train_steps` is negative.
    """

    def __init__(self, monitor: str = "val/loss", every_n_train_steps: int = 0) -> None:
        if every_n_train_steps < 0:
            raise ValueError(f"checkpoint.every_n_train_steps is {every_n_train_steps}; 0 turns it off.")
        self.monitor, self.every_n_train_steps = monitor, every_n_train_steps
        self.best = math.inf
        self._saved_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """There is nothing to write before the first step."""
        self._saved_at = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Write `last`, every so many steps; once a step, however many batches are accumulated for it."""
        every, step = self.every_n_train_steps, trainer.global_step
        if every and step % every == 0 and step != self._saved_at:
            self._save(trainer, "last")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `best`, if this is it."""
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or value is None:
            return
        if trainer.strategy.broadcast(float(value) < self.best):
            self.best = float(value)
            self._save(trainer, "best")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `last`."""
        self._save(trainer, "last")

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self.best = state_dict["best"]

    def _save(self, trainer: Trainer, name: str) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(run_folder(trainer).checkpoint(name), weights_only=False)
            self._saved_at = trainer.global_step if name == "last" else self._saved_at
