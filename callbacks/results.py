"""Did a stage finish, with which numbers and in which time? `results/fit.json`, `results/test.json`."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

import dynamo
from callbacks.base import run_folder


class StageResults(Callback):
    """Did a stage finish, and with which numbers? Writes `results/STAGE.json` as the last act of fit and test.

    `dynamo reproduce` skips a stage whose file is there. Training that begins, or goes on, takes the files of the
    run away: they are about weights that are no more. A run that was interrupted has the metrics and the time of all
    its parts, and the versions of the last. Hooks: the start and the end of fit and test. In a checkpoint: metrics and
    seconds so far.

    Args:
        enabled: False turns it off.

    Examples:
        >>> import json
        >>> from pathlib import Path
        >>> from pytorch_lightning import Trainer
        >>> from callbacks import StageResults
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MemberGroup, PopulationTask
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> task = PopulationTask([MemberGroup("all", count=2, hidden_size=8)], data.vocab_size, data.classes)
        >>> quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> Trainer(default_root_dir="run", max_epochs=2, callbacks=[StageResults()], **quiet).fit(task, data)
        >>> json.loads(Path("run/results/fit.json").read_text())["epochs"]
        2
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._began = time.perf_counter()
        self._before: dict[str, Any] = {"seconds": 0.0, "metrics": {}}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note the time."""
        self._began = time.perf_counter()
        self._before = {"seconds": 0.0, "metrics": {}}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take away what was said of other weights; what held at the checkpoint still holds."""
        if self.enabled and trainer.is_global_zero:
            kept = {"overrides.json"} | ({"fidelity_val.json"} if self._before["metrics"] else set())
            for file in run_folder(trainer).results.glob("*.json"):
                if file.name not in kept:
                    file.unlink()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what a run that goes on from here would not know."""
        checkpoint["callbacks"][self.state_key] = {
            "seconds": self._before["seconds"] + time.perf_counter() - self._began,
            "metrics": self._numbers(trainer),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self._before = {"seconds": state_dict["seconds"], "metrics": dict(state_dict["metrics"])}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the numbers; Lightning calls this only when the stage came to its end, after every other hook."""
        if not self.enabled or stage not in ("fit", "test") or not trainer.is_global_zero:
            return
        numbers = self._numbers(trainer) if stage == "fit" else _metrics(trainer)
        seconds = time.perf_counter() - self._began + (self._before["seconds"] if stage == "fit" else 0.0)
        run_folder(trainer).write_result(
            TrainerFn(stage).value,
            {
                "seconds": round(seconds, 1),
                "epochs": trainer.current_epoch,
                "steps": trainer.global_step,
                "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "lightning": version("pytorch-lightning"),
                "dynamo": dynamo.__version__,
                "metrics": dict(sorted(numbers.items())),
            },
        )

    def _numbers(self, trainer: Trainer) -> dict[str, float]:
        """The newest value of every metric of this training, its earlier parts included."""
        return {**self._before["metrics"], **_metrics(trainer)}


def _metrics(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
