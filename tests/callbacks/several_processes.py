"""Run by the tests in several processes at once: one step without learning, watched by the map callbacks.

Arguments: folder of the population, where rank 0 writes the answers, number of processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from pytorch_lightning import Trainer, seed_everything

from callbacks import AccuracyMap, SimilarityMDS
from datamodules import SyntheticSentimentDataModule
from dynamo.meta import MetaTask


def main(population: str, answers: Path, processes: int) -> None:
    """The arrays that the callbacks would draw, of a map that is not trained."""
    seed_everything(0)
    torch.set_num_threads(1)
    data = SyntheticSentimentDataModule(train_size=600, test_size=50, batch_size=4, max_length=12)
    task = MetaTask(population, data.vocab_size, dimensions=3, lr=1e-30, theta_lr=1e-30)
    with torch.no_grad():
        task.embedding.theta.copy_(torch.randn(task.embedding.theta.shape))
        for parameter in task.network.parameters():
            parameter.mul_(3)  # answers that differ over the plane
    watching = AccuracyMap(size=3, items=31), SimilarityMDS(items=31)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        default_root_dir=answers.parent,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=data)
    found_map, found_distances = (callback.compute(trainer, task) for callback in watching)
    if trainer.is_global_zero:
        arrays = {"relative": found_map.relative, "mean_theta": torch.tensor([found_map.mean_theta])}
        arrays |= {"distances": found_distances.distances, "emulators": found_distances.emulators}
        torch.save(arrays, answers)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
