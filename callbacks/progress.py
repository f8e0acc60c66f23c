"""How far is the run, where no terminal shows a progress bar? One line per epoch."""

from __future__ import annotations

import logging
import sys
import time

from pytorch_lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)

SHOWN = ("val/loss", "val/accuracy", "val/agreement", "val/variance_explained")


class EpochLine(Callback):
    """How far is the run? Logs one line per epoch when standard output is no terminal (a log file, a batch job).

    Lightning's progress bar shows nothing there before the run ends. Hook: the end of a training epoch. Cost: none.

    Args:
        enabled: False turns it off.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._began = 0.0
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch has validation metrics of its own."""
        self._validated = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line."""
        if not self.enabled or not trainer.is_global_zero or sys.stdout.isatty():
            return
        metrics = trainer.callback_metrics
        names = ("train/loss", *SHOWN) if self._validated else ("train/loss",)
        self._validated = False
        shown = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in names if name in metrics)
        seconds = time.perf_counter() - self._began
        log.info(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {seconds:.0f} s  {shown}")
