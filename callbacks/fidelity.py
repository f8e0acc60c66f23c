"""How well does each emulator follow its original, on held-out items?"""

from __future__ import annotations

import logging
import math
from typing import Any, ClassVar

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from callbacks.base import run_folder, show, steps_of
from callbacks.pictures import is_last, is_pictured
from dynamo.analysis import Fidelity, FidelitySums
from dynamo.analysis.emulation_fidelity import Counted, begin_counting, count_batch
from dynamo.figures import fidelity_bars
from dynamo.meta import MetaTask
from dynamo.population.ranks import rows_of_ranks
from dynamo.types import UserError

log = logging.getLogger(__name__)


class FidelityTable(Callback):
    """How well does each emulator follow its original, on items the meta-model was not trained on?

    Measures, per member: share of hidden variance explained, KL and agreement of the outputs, accuracy of the
    emulator and of the original. Logs the means `val/variance_explained`, `val/kl`, `val/agreement`,
    `val/accuracy`, `val/original_accuracy`, and `val/loss` (unexplained variance + lambda * KL); where the states have
    several stages, those by themselves too, `val/variance_explained_stage1` and so on; the groups'
    `val/agreement/GROUP` and `val/variance_explained/GROUP`; the worst member's `val/agreement_worst` and its name in
    `results/fidelity_val.json`; in at most a hundred epochs of a run, the figure `map/4_fidelity` (`fidelity_val.png`).
    The same with `test`, whose figure is `map/5_fidelity_test`.
    Hooks: the batches and the end of validation and test, the end of epochs and of training. Cost: one pass of all
    members and emulators over the split, plus a picture.

    With lambda = 0 the readout G is not trained; the members' own readouts then answer for the emulators.

    Args:
        every_n_epochs: in which validations of a fit, counted in epochs (the last epoch is always included); 0
            turns the callback off, in test too.
        members_at_once: how many members run together; bounds memory.

    Raises:
        ValueError: an option is out of its range.

    Examples:
        >>> import json
        >>> from pathlib import Path
        >>> from pytorch_lightning import Trainer
        >>> from callbacks import FidelityTable
        >>> from datamodules import SyntheticSentimentDataModule
        >>> from dynamo import MetaTask, Population
        >>> from dynamo.population import RecurrentClassifier
        >>> data = SyntheticSentimentDataModule(train_size=200)
        >>> networks = [RecurrentClassifier("gru", data.vocab_size, 4, 8, 2) for _ in range(3)]
        >>> task = MetaTask(Population.from_modules(networks, task="synthetic"), data.vocab_size, dimensions=2)
        >>> quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        >>> _ = Trainer(default_root_dir="run", callbacks=[FidelityTable()], **quiet).test(task, data, verbose=False)
        >>> sorted(json.loads(Path("run/results/fidelity_test.json").read_text())["mean"])
        ['accuracy', 'agreement', 'kl', 'original_accuracy', 'variance_explained']
    """

    name: ClassVar[str] = "fidelity"

    def __init__(self, every_n_epochs: int = 1, members_at_once: int = 32) -> None:
        if every_n_epochs < 0:
            raise ValueError(f"fidelity.every_n_epochs is {every_n_epochs}; 0 turns it off.")
        if members_at_once < 1:
            raise ValueError(f"fidelity.members_at_once is {members_at_once}; it has to be at least 1.")
        self.every_n_epochs, self.members_at_once = every_n_epochs, members_at_once
        self._counted: list[Counted] = []
        self._newest: Fidelity | None = None
        """What rank 0 has not drawn yet: a later validation may come before there is a picture."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._counted = []
        if not isinstance(pl_module, MetaTask) or not self.every_n_epochs:
            return
        due = is_last(trainer) or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if trainer.state.fn == TrainerFn.FITTING and not due:
            return
        self._counted = begin_counting(pl_module.population, self.members_at_once)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one batch."""
        if isinstance(pl_module, MetaTask):
            count_batch(self._counted, pl_module.compare, batch, pl_module.burn_in)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the ranks together, log and draw."""
        self._report(trainer, pl_module, "val")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the last validation of this epoch found, if the epoch is pictured."""
        between = math.lcm(self.every_n_epochs, trainer.check_val_every_n_epoch or 1)
        if self._newest is not None and is_pictured(trainer, between):
            self._draw_newest(trainer, pl_module, "val")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the last validation found, where no picture shows it: some runs end before their last epoch."""
        self._draw_newest(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self.on_validation_epoch_start(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one batch."""
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the ranks together, log and draw."""
        self._report(trainer, pl_module, "test")

    def _report(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not self._counted or not isinstance(pl_module, MetaTask) or trainer.sanity_checking:
            return
        gathered = [rows_of_ranks(sums.as_tensor().to(pl_module.device)) for _, sums in self._counted]
        try:
            results = [FidelitySums.from_tensor(rows).result() for rows in gathered]
        except ValueError as error:
            remedy = f"data.init_args.{stage}_items"
            raise UserError(f"{error}; trainer.limit_{stage}_batches leaves a task out, {remedy} does not.") from error
        found = Fidelity.join(results)
        scalars = {key: values.mean() for key, values in found.columns().items()}
        scalars["loss"] = 1 - scalars["variance_explained"]
        if pl_module.output_weight:
            scalars["loss"] += pl_module.output_weight * scalars["kl"]
        groups = [member.group for member in pl_module.members]
        asked = [key for key in ("variance_explained", "agreement") if key in scalars]
        for name in dict.fromkeys(groups):
            chosen = [i for i, group in enumerate(groups) if group == name]
            for key in asked:
                scalars[f"{key}/{name}"] = getattr(found, key)[chosen].mean()
        # Every rank has the same values, and every rank needs them: `best.ckpt` is decided by val/loss.
        pl_module.log_dict({f"{stage}/{key}": value.float() for key, value in scalars.items()}, sync_dist=True)
        if "agreement" in scalars:
            pl_module.log(f"{stage}/agreement_worst", found.agreement.min().float(), sync_dist=True)
        if trainer.is_global_zero:
            self._write(trainer, pl_module, stage, found)
            self._newest = found
            if trainer.state.fn != TrainerFn.FITTING:
                self._draw_newest(trainer, pl_module, stage)

    def _write(self, trainer: Trainer, task: MetaTask, stage: str, found: Fidelity) -> None:
        names = [member.name for member in task.members]
        criterion = "agreement" if "agreement" in found.columns() else "variance_explained"
        worst = int(getattr(found, criterion).argmin())
        if stage == "test":
            value = float(getattr(found, criterion)[worst])
            log.info(f"worst emulator: {names[worst]}, {criterion.replace('_', ' ')} {value:.3f}")
        table = {key: values.tolist() for key, values in found.columns().items()}
        run_folder(trainer).write_result(
            f"fidelity_{stage}",
            {
                "step": steps_of(trainer),
                "worst": names[worst],
                "mean": {key: float(values.mean()) for key, values in found.columns().items()},
                "members": [
                    {"name": name, **{key: values[i] for key, values in table.items()}} for i, name in enumerate(names)
                ],
            },
        )

    def _draw_newest(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        found, self._newest = self._newest, None
        if found is None or not isinstance(module, MetaTask):
            return
        figure = fidelity_bars(
            [member.name for member in module.members],
            [member.group for member in module.members],
            found.variance_explained,
            found.agreement,
            found.accuracy,
            found.original_accuracy,
            title=f"Emulators against their originals, {stage} items",
        )
        show(trainer, f"fidelity/{stage}", figure)
