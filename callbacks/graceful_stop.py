"""May the run end here? Signals end it at the next step, on all processes together, with a checkpoint."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from types import FrameType
from typing import Any, ClassVar, Final, NoReturn

import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.trainer.states import TrainerFn

from callbacks.base import run_folder
from callbacks.checkpoint import RunCheckpoint
from dynamo.resume import Moment
from dynamo.types import UserError

log = logging.getLogger(__name__)

JOB: Final = re.compile(r"[0-9]+(_[0-9]+)?")
"""What the number of a SLURM job looks like."""


class GracefulStop(Callback):
    """May the run end here? SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 end it at the next optimiser step.

    All processes agree on the step, write `checkpoints/last.ckpt` together, and end with exit code 128 + the signal's
    number, as a shell says it of a process that a signal ended. One that comes while a validation runs waits for its
    end. A second Ctrl-C ends at once. Under SLURM, after SIGUSR1 (`--signal=USR1@120`: two minutes before the time
    limit) the job asks to be queued again. Testing and validating have nothing to save and end at once.

    An error in one of several processes ends them all: the others could wait for it for ever.

    Hooks: setup and teardown, the start of training, of its batches and of validation, exceptions. Cost: with several
    processes one number is gathered at every step.

    Args:
        enabled: False leaves signals to Lightning and Python.
        requeue: whether a SLURM job is queued again after SIGUSR1.

    Examples:
        >>> from callbacks import GracefulStop
        >>> [128 + number for number in GracefulStop.signals]  # the exit codes after SIGTERM, Ctrl-C and SIGUSR1
        [143, 130, 138]
    """

    signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self, enabled: bool = True, requeue: bool = True) -> None:
        self.enabled, self.requeue = enabled, requeue
        self._received = 0
        self._steps = -1  # at the start of the batch before
        self._before: dict[int, Any] = {}  # who heard the signals before; nobody once the run is over

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen, in training."""
        if stage == TrainerFn.FITTING:
            self._received, self._steps = 0, -1
            self._before = {number: signal.getsignal(number) for number in self.signals}
            self._listen(self._note)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._before = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning, whose own handlers can wait for each other under DDP."""
        self._listen(self._note)

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """End here, if a signal came and no gradient is half gathered."""
        if self.enabled and trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self._end_if_asked(trainer, pl_module, Moment.BETWEEN_BATCHES)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End before the validation, if a signal came; outside of training let signals act at once."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._listen(lambda number, _: _end_now(trainer, number))
        elif self.enabled and not trainer.sanity_checking:
            self._end_if_asked(trainer, pl_module, Moment.BEFORE_VALIDATION)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals act at once."""
        self.on_validation_start(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals act at once."""
        self.on_validation_start(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Of several processes: say which one failed and why, and end without waiting for the others."""
        self.teardown(trainer, pl_module, "fit")
        if not self.enabled or trainer.world_size == 1 or isinstance(exception, SystemExit | KeyboardInterrupt):
            return
        where = f"process {trainer.global_rank} of {trainer.world_size}"
        if isinstance(exception, UserError):
            said = f"dynamo: error: {exception} ({where})\n"
        elif _lost_contact(exception):
            said = f"dynamo: error: {where} lost contact with another, which was killed or says itself why it ended.\n"
        else:
            said = f"{''.join(traceback.format_exception(exception))}dynamo: error: {exception!r} ({where})\n"
        sys.stdout.flush()
        sys.stderr.write(said)
        sys.stderr.flush()
        _end_children(trainer)
        os._exit(1)  # the way out through Python waits for threads, and for the processes that are gone

    def _listen(self, handler: Any) -> None:  # noqa: ANN401 - of `signal.signal`
        """Hand the signals to `handler`; Lightning puts back what was there when the run is over."""
        if self.enabled and threading.current_thread() is threading.main_thread():
            for number in self.signals:
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; in here nothing may wait for another process."""
        if not self._before:  # Lightning has put this back as what it found, after an exception
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)
            return
        if number == signal.SIGINT:
            if self._received == number:
                raise KeyboardInterrupt
            os.write(2, b"\nStopping at the next step; press Ctrl-C again to stop at once.\n")
        self._received = number

    def _end_if_asked(self, trainer: Trainer, module: LightningModule, moment: Moment) -> None:
        """Agree with all processes, write `last` together, and end."""
        mine = torch.tensor(self._received, device=module.device)
        agreed = mine if trainer.world_size == 1 else trainer.strategy.reduce(mine, reduce_op="max")
        if not (number := int(agreed)):
            return
        keeper = next((c for c in trainer.callbacks if isinstance(c, RunCheckpoint)), None)  # type: ignore[attr-defined]
        if keeper is not None:
            keeper.save(trainer, "last", moment)
        if trainer.is_global_zero:
            log.info(
                f"Stopped by {signal.Signals(number).name} after step {trainer.global_step}. Go on with the same "
                f"command and --ckpt_path last (the run is {run_folder(trainer).root})."
            )
            if self.requeue and number == signal.SIGUSR1:
                _requeue()
        trainer.strategy.barrier("stopped")  # as soon as one process is gone, launchers kill the others
        # Lightning kills the process that launched the others as soon as one of these ends with a code of its own.
        launched = trainer.global_rank and not (TorchElasticEnvironment.detect() or SLURMEnvironment.detect())
        raise SystemExit(0 if launched else 128 + number)


def _requeue() -> None:
    """Ask SLURM to queue this job again; nothing outside of SLURM."""
    job = os.environ.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    if job is None or not JOB.fullmatch(job):
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        problem = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        log.warning(f"scontrol requeue {job} failed ({problem}): submit the job again, it goes on where it stopped.")
    else:
        log.info(f"Job {job} is queued again.")


def _lost_contact(exception: BaseException) -> bool:
    """Whether this process failed because another one is gone."""
    return isinstance(exception, RuntimeError) and bool(
        re.search(r"[Cc]onnection (closed|reset|refused)|NCCL|gloo|Gloo|Broken pipe|DistBackend", str(exception))
    )


def _end_children(trainer: Trainer) -> None:
    """Kill the processes that this one launched; in a collective they notice no milder signal."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGKILL)


def _end_now(trainer: Trainer, number: int) -> NoReturn:
    """End at once with the code that says so."""
    _end_children(trainer)
    sys.stdout.flush()
    os._exit(128 + number)
