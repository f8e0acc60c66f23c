"""Did a stage finish, with which numbers and in which time? `results/fit.json`, `results/test.json`."""

from __future__ import annotations

import time

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from callbacks.base import run_folder


class StageResults(Callback):
    """Did a stage finish, and with which numbers? Writes `results/STAGE.json` as the last act of fit and test.

    `dynamo reproduce` skips a stage whose file is there. Training that begins, or goes on, takes the files of the
    run away: they are about weights that are no more. Hooks: the start and the end of fit and test.

    Args:
        enabled: False turns it off.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._began = time.perf_counter()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take away what was said of other weights."""
        if self.enabled and trainer.is_global_zero:
            for file in run_folder(trainer).results.glob("*.json"):
                file.unlink()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the numbers; Lightning calls this only when the stage came to its end, after every other hook."""
        if not self.enabled or stage not in ("fit", "test") or not trainer.is_global_zero:
            return
        run_folder(trainer).write_result(
            TrainerFn(stage).value,
            {
                "seconds": round(time.perf_counter() - self._began, 1),
                "epochs": trainer.current_epoch,
                "steps": trainer.global_step,
                "torch": torch.__version__,
                "metrics": {name: float(value) for name, value in sorted(trainer.callback_metrics.items())},
            },
        )
