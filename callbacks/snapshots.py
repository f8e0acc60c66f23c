"""How did the networks become what they are? A population per epoch."""

from __future__ import annotations

from dataclasses import replace

from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.artifact import frozen_copy
from callbacks.base import run_folder
from dynamo.figures.map_panel import SNAPSHOT_MARK
from dynamo.population import PopulationTask


class Snapshots(Callback):
    """How did the networks become what they are? Writes `RUN/snapshots/epoch=NNN`, a population per epoch.

    Joined (`population: RUN/snapshots/*`), they are the population of Figure 3(2) of the paper. A member of the
    snapshot of epoch 3 is called `NAME@3`. Inert for anything but a `PopulationTask`. Hook: the end of a training
    epoch, after validation. Cost: one write of all weights.

    Args:
        every_n_epochs: how often; 0, the default, turns it off.

    Raises:
        ValueError: `every_n_epochs` is negative.

    Examples:
        >>> from pytorch_lightning import Trainer
        >>> from callbacks import Snapshots
        >>> from dynamo.population import load_populations
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MemberGroup, PopulationTask
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> task = PopulationTask([MemberGroup("all", count=2, hidden_size=8)], data.vocab_size, data.classes)
        >>> quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> Trainer(default_root_dir="run", max_epochs=2, callbacks=[Snapshots(1)], **quiet).fit(task, data)
        >>> [member.name for member in load_populations("run/snapshots/*").members]
        ['all-0@1', 'all-1@1', 'all-0@2', 'all-1@2']
    """

    def __init__(self, every_n_epochs: int = 0) -> None:
        if every_n_epochs < 0:
            raise ValueError(f"snapshots.every_n_epochs is {every_n_epochs}; 0 turns it off.")
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the snapshot of this epoch; one that a resumed run finds finished is left alone."""
        epoch = trainer.current_epoch + 1
        if not self.every_n_epochs or epoch % self.every_n_epochs or not isinstance(pl_module, PopulationTask):
            return
        folder = run_folder(trainer).root / "snapshots" / f"epoch={epoch:03d}"
        if trainer.is_global_zero and not folder.exists():
            now = frozen_copy(trainer, pl_module, epoch)
            marked = [[replace(m, name=f"{m.name}{SNAPSHOT_MARK}{epoch}") for m in part] for part in now.bundle_members]
            now.with_members(marked).save(folder)
