"""Which networks did the run produce? The trained population, as a folder that a meta-model can be trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.base import run_folder
from dynamo.population import Population, PopulationTask
from dynamo.population.manifest import PopulationError, rewrite_members


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

    Examples:
        >>> from pytorch_lightning import Trainer
        >>> from callbacks import PopulationArtifact
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MemberGroup, Population, PopulationTask
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> task = PopulationTask([MemberGroup("all", count=2, hidden_size=8)], data.vocab_size, data.classes)
        >>> quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> Trainer(default_root_dir="run", max_epochs=1, callbacks=[PopulationArtifact()], **quiet).fit(task, data)
        >>> [member.name for member in Population.load("run/population").members]
        ['all-0', 'all-1']
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the population; one that is there is replaced only by what the same run made of it since."""
        if not self.enabled or not isinstance(pl_module, PopulationTask) or not trainer.is_global_zero:
            return
        population = frozen_copy(trainer, pl_module, trainer.current_epoch)
        folder = run_folder(trainer).root / "population"
        if folder.exists():
            if same_weights(folder, pl_module):
                return  # nothing was trained: the accuracies in its manifest hold
            shutil.rmtree(folder)  # the command line has made sure that this run may go on here
        population.save(folder)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the test accuracies, if it was these weights that were tested (and not those of `best.ckpt`)."""
        if not self.enabled or not isinstance(pl_module, PopulationTask) or not trainer.is_global_zero:
            return
        folder = run_folder(trainer).root / "population"
        if same_weights(folder, pl_module):
            accuracies = pl_module.accuracies["test"].tolist()
            rewrite_members(folder, Population.load(folder).with_accuracies("test", accuracies).bundle_members)


def same_weights(folder: Path, task: PopulationTask) -> bool:
    """Whether the population in a folder has, bit for bit, the weights of the task's members."""
    try:
        saved = [bundle.state_dict() for bundle in Population.load(folder).bundles]
    except PopulationError:  # missing or damaged
        return False
    now = [bundle.state_dict() for bundle in task.bundles]
    return len(saved) == len(now) and all(
        old.keys() == new.keys() and all(torch.equal(old[key], new[key].cpu()) for key in old)
        for old, new in zip(saved, now, strict=True)
    )
