"""Which networks did the run produce? The trained population, as a folder that a meta-model can be trained on."""

from __future__ import annotations

import shutil

from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.base import run_folder
from dynamo.population import Population, PopulationTask
from dynamo.population.artifact import rewrite_manifest


def frozen_copy(trainer: Trainer, task: PopulationTask, epoch: int) -> Population:
    """The members as they are now."""
    fingerprint: dict[str, str] = getattr(trainer.datamodule, "fingerprint", {})  # type: ignore[attr-defined]
    config = {"lr": task.lr, "weight_decay": task.weight_decay, "clip": task.clip, "steps": trainer.global_step}
    return task.population(epoch, fingerprint, config)


class PopulationArtifact(Callback):
    """Which networks did the run produce? Writes `RUN/population` when training ends.

    Adds the members' test accuracy to its manifest after `dynamo test`. Inert for anything but a `PopulationTask`.
    Hooks: the end of fit and of test. Cost: one write of all weights.

    Args:
        enabled: False turns it off.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the population; a finished one is replaced only by what the same run, resumed, makes of it."""
        if not self.enabled or not isinstance(pl_module, PopulationTask) or not trainer.is_global_zero:
            return
        population = frozen_copy(trainer, pl_module, trainer.current_epoch)
        folder = run_folder(trainer).root / "population"
        if folder.exists():
            shutil.rmtree(folder)  # the command line has made sure that this run may go on here
        population.save(folder)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the test accuracies."""
        if not self.enabled or not isinstance(pl_module, PopulationTask) or not trainer.is_global_zero:
            return
        folder = run_folder(trainer).root / "population"
        accuracies = pl_module.accuracies["test"].tolist()
        rewrite_manifest(folder, Population.load(folder).with_accuracies("test", accuracies))
