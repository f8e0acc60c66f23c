"""How far is the run, where no terminal shows a progress bar? One line per epoch."""

from __future__ import annotations

import logging
import sys
import time

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

log = logging.getLogger(__name__)

SHOWN = ("val/loss", "val/accuracy", "val/agreement", "val/variance_explained")


class EpochLine(Callback):
    """How far is the run? Logs one line per epoch when standard output is no terminal (a log file, a batch job).

    Lightning's progress bar shows nothing there before the run ends. On a terminal too, it forgets the bars of
    validations that are over, see `forget_old_bars`. Hook: the end of a training epoch. Cost: none.

    Args:
        enabled: False turns it off.

    Examples:
        >>> from unittest import TestCase
        >>> from pytorch_lightning import Trainer
        >>> from callbacks import EpochLine
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MemberGroup, PopulationTask
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> task = PopulationTask([MemberGroup("all", count=2, hidden_size=8)], data.vocab_size, data.classes)
        >>> quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> with TestCase().assertLogs("callbacks.progress") as said:
        ...     Trainer(max_epochs=1, callbacks=[EpochLine()], **quiet).fit(task, data)
        >>> said.records[0].getMessage()
        'epoch 1/1 ... s  train/loss 0...  val/loss 0...  val/accuracy 0...'
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
        forget_old_bars(trainer)
        if not self.enabled or not trainer.is_global_zero or sys.stdout.isatty():
            return
        metrics = trainer.callback_metrics
        names = ("train/loss", *SHOWN) if self._validated else ("train/loss",)
        self._validated = False
        shown = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in names if name in metrics)
        seconds = time.perf_counter() - self._began
        log.info(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {seconds:.0f} s  {shown}")


def forget_old_bars(trainer: Trainer) -> None:
    """Take the bars of earlier validations out of Lightning's rich progress bar.

    It makes a new one for every validation, hides the old ones and keeps them, and rich what it drew of them:
    several kilobytes an epoch.
    """
    bar = trainer.progress_bar_callback
    if not isinstance(bar, RichProgressBar) or bar.progress is None:
        return
    for task in bar.progress.tasks:
        if not task.visible and task.id != bar.val_progress_bar_id:  # Lightning hides this one once more
            bar.progress.remove_task(task.id)
            for column in bar.progress.columns:
                vars(column).get("_renderable_cache", {}).pop(task.id, None)
