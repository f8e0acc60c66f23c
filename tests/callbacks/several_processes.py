"""Run by the tests in several processes at once: one step without learning, watched by the map callbacks.

Arguments: folder of the populations `words` and `images`, folder of their runs, where rank 0 writes the answers, number
of processes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule, Trainer, seed_everything

from callbacks import AccuracyMap, FidelityTable, SimilarityMDS
from datamodules import DigitsDataModule, SyntheticSentimentDataModule
from datamodules.base import TaskData
from dynamo.meta import MetaTask, ResidualMetaModel


class NoughtsAndOnes(DigitsDataModule):
    """Two classes alone: two items are a draw then, of which one of three processes gets none."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.classes = {self.task: ("0", "1")}

    def load(self) -> dict[str, TaskData]:
        (whole,) = super().load().values()
        parts = (split.select(torch.where(split.labels < 2)[0]) for split in (whole.train, whole.val, whole.test))
        return {self.task: TaskData(*parts, whole.digest)}


def of_words(population: str) -> tuple[LightningDataModule, MetaTask]:
    """A map of recurrent networks."""
    data = SyntheticSentimentDataModule(
        train_size=600, test_size=50, batch_size=4, eval_batch_size=4, val_items=31, max_length=12
    )
    return data, MetaTask(population, data.vocab_size, dimensions=3, lr=1e-30, theta_lr=1e-30)


def of_images(population: str) -> tuple[LightningDataModule, MetaTask]:
    """A map of residual networks."""

    def network(vocab_size: int, classes: Mapping[str, int], dimensions: int) -> ResidualMetaModel:
        return ResidualMetaModel(vocab_size, classes, dimensions, [5, 6, 7, 8], [1, 1, 1, 1])

    data = NoughtsAndOnes(batch_size=4, eval_batch_size=4, val_items=25)
    return data, MetaTask(population, data.vocab_size, network=network, dimensions=3, lr=1e-30, theta_lr=1e-30)


def look(data: LightningDataModule, task: MetaTask, place: Path, processes: int) -> None:
    """Write the arrays that the callbacks would draw, of a map that is not trained."""
    with torch.no_grad():
        task.embedding.theta.copy_(torch.randn(task.embedding.theta.shape))
        for parameter in task.network.parameters():
            parameter.mul_(3)  # answers that differ over the plane
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        limit_train_batches=1,
        num_sanity_val_steps=0,
        default_root_dir=place,
        logger=False,
        callbacks=[FidelityTable(members_at_once=1)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=data)
    task.eval()
    found_map = AccuracyMap(size=3, items=31).compute(trainer, task)
    arrays = {"relative": found_map.relative, "mean_theta": torch.tensor([found_map.mean_theta])}
    for name, callback in (("many", SimilarityMDS(items=22)), ("two", SimilarityMDS(items=2, measure="cka"))):
        found = callback.compute(trainer, task)
        arrays |= {f"{name} distances": found.distances, f"{name} emulators": found.emulators}
    if trainer.is_global_zero:
        torch.save(arrays, place / "answers.pt")


def main(populations: Path, place: Path, processes: int) -> None:
    """Look at both, one after the other."""
    for kind, made in (("words", of_words), ("images", of_images)):
        seed_everything(0)
        look(*made(str(populations / kind)), place / kind, processes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
