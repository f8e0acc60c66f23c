"""From where can an interrupted run go on, and which weights were the best? `last.ckpt` and `best.ckpt`."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from callbacks.base import run_board, run_folder
from dynamo.files import Claim
from dynamo.population.identity import IdentifiedTask
from dynamo.resume import Moment, set_counters, settle

log = logging.getLogger(__name__)


class RunCheckpoint(Checkpoint):
    """From where can the run go on, and which weights were the best?

    Writes `checkpoints/last.ckpt` when an epoch is over, at the end of training and, if asked to, every so many steps
    or minutes; and `checkpoints/best.ckpt` after a validation in which `monitor` fell below everything before. A run
    that goes on from `last` ends with the bits of one that was never interrupted, and its event files read the same:
    `last` is written between two batches (see `dynamo.resume`) and notes how long the event files were then, to which
    they are cut. (Lightning's ModelCheckpoint writes inside the hooks of a batch, and its "last" only together with a
    new best one.) One process at a time may train in a run folder.

    Hooks: setup and teardown, the start of training and of its batches, the end of validation and of training; with
    several processes, they agree on the time at every step, if `every_n_minutes` is set. Cost: one write of all
    weights and the optimiser's state.

    Args:
        monitor: the smaller the better; a run that does not log it has no `best.ckpt`.
        every_n_train_steps: how often `last` is written beside the ends of epochs, in optimiser steps; 0 for never.
        every_n_minutes: the same by the clock; 0 for never.

    Raises:
        ValueError: a number is negative.

    Examples:
        >>> from pathlib import Path
        >>> from pytorch_lightning import Trainer
        >>> from callbacks import RunCheckpoint
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MemberGroup, PopulationTask
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> task = PopulationTask([MemberGroup("all", count=2, hidden_size=8)], data.vocab_size, data.classes)
        >>> quiet = {"accelerator": "cpu", "logger": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> Trainer(default_root_dir="run", max_epochs=1, callbacks=[RunCheckpoint()], **quiet).fit(task, data)
        >>> sorted(file.name for file in Path("run/checkpoints").iterdir())
        ['best.ckpt', 'last.ckpt']
    """

    def __init__(self, monitor: str = "val/loss", every_n_train_steps: int = 0, every_n_minutes: float = 10.0) -> None:
        for option, value in (("every_n_train_steps", every_n_train_steps), ("every_n_minutes", every_n_minutes)):
            if not value >= 0:
                raise ValueError(f"checkpoint.{option} is {value}; 0 turns it off.")
        self.monitor, self.every_n_train_steps, self.every_n_minutes = monitor, every_n_train_steps, every_n_minutes
        self.best = math.inf
        self._claim: Claim | None = None
        self._ran_before = False  # training began here once already, maybe to be ended before its first checkpoint
        self._moment = Moment.OTHER
        self._resumed: dict[str, Any] = {}
        self._steps, self._epoch = 0, 0  # where the run stood at the start of the batch before
        self._saved_time = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Claim the run folder, in training."""
        if stage == TrainerFn.FITTING and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = run_folder(trainer)
            self._ran_before = folder.config.exists()
            self._claim = Claim(folder.root / ".lock", f"The run {folder.root}")
            folder.sweep()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where the checkpoint was written, and take away what was logged or left half-written after it."""
        settle(trainer, Moment(self._resumed.get("moment", Moment.OTHER)))
        self._steps = trainer.global_step
        self._epoch, self._saved_time = trainer.current_epoch, time.monotonic()
        world = self._resumed.get("processes", trainer.world_size)
        if trainer.is_global_zero:
            if world != trainer.world_size:
                log.warning(
                    f"The checkpoint was written by {world} processes, now there are {trainer.world_size}: the run "
                    "goes on, but its bits may differ from those of a run that was not interrupted."
                )
            if (board := run_board(trainer)) is not None and (self._resumed or self._ran_before):
                board.rewind(self._resumed.get("event_files", {}))
        self._resumed = {}

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Write `last`, if it is time: only here, the batch before is wholly done."""
        steps, epoch = trainer.global_step, trainer.current_epoch
        if steps == self._steps:
            return  # gradients are being accumulated; they are in no checkpoint
        new_epoch, self._epoch, before, self._steps = epoch != self._epoch, epoch, self._steps, steps
        every = self.every_n_train_steps
        due = new_epoch or (every and steps // every > before // every)
        if self._agreed_time(trainer) or due:
            self.save(trainer, "last", Moment.BETWEEN_BATCHES)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `best`, if this is it."""
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or value is None:
            return
        if trainer.strategy.broadcast(float(value) < self.best):
            self.best = float(value)
            self.save(trainer, "best", Moment.OTHER)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `last`."""
        self.save(trainer, "last", Moment.END)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the run folder."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go of the run folder."""
        self.teardown(trainer, pl_module, "fit")

    def save(self, trainer: Trainer, name: str, moment: Moment) -> Path:
        """Write a checkpoint; called on all ranks together.

        Args:
            trainer: whose state it is.
            name: last or best.
            moment: which one it is.

        Returns:
            The file.

        Raises:
            DivergenceError: a weight is no finite number.
        """
        path = run_folder(trainer).checkpoint(name)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if isinstance(task := trainer.lightning_module, IdentifiedTask):
                task.check_weights()  # a checkpoint that nothing can go on from would replace one that something can
            self._moment = moment
            trainer.save_checkpoint(path, weights_only=False)
            self._moment = Moment.OTHER
            if name == "last":
                self._saved_time = time.monotonic()
        return path

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the moment in Lightning's counters."""
        set_counters(checkpoint["loops"], self._moment)
        board = run_board(trainer)
        checkpoint["callbacks"][self.state_key].update(
            processes=trainer.world_size, event_files={} if board is None else board.lengths()
        )

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and the moment; `on_save_checkpoint` adds what the trainer knows."""
        return {"best": self.best, "moment": self._moment.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self.best, self._resumed = state_dict["best"], dict(state_dict)

    def _agreed_time(self, trainer: Trainer) -> bool:
        """Whether so many minutes have passed since `last` was written; all ranks decide as one."""
        if not self.every_n_minutes:
            return False
        over = time.monotonic() - self._saved_time >= 60 * self.every_n_minutes
        return trainer.strategy.reduce_boolean_decision(over, all=False)
