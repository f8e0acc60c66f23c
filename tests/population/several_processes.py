"""Run by the tests in several processes at once: residual networks learn digits for some steps, and are tested."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from callbacks import PopulationArtifact
from datamodules import DigitsDataModule
from dynamo.population import MemberGroup, PopulationTask
from dynamo.types import TaskBatch

GROUPS = [
    MemberGroup("wide", count=2, architecture="resnet", widths=[4, 6, 8, 10], depths=[1, 1, 1, 1]),
    MemberGroup("crop", count=1, architecture="resnet", widths=[4, 5, 6, 7], depths=[1, 1, 1, 1], policy="flip_crop"),
]


def state(task: LightningModule) -> dict[str, Tensor]:
    """A copy of all weights and running statistics."""
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def main(place: Path, processes: int) -> dict[str, Any]:
    """Train and test, and keep what this rank was given and what it made of it."""
    seed_everything(0)
    warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)  # torch 2.3 knows no other
    data = DigitsDataModule(batch_size=8, eval_batch_size=20, val_items=51, test_items=53)
    task = PopulationTask(GROUPS, data.vocab_size, data.classes, lr=0.1, optimizer="sgd", warmup_steps=3, clip=5.0)
    seen: dict[str, Any] = {"start": state(task)}

    def note_items(_: Trainer, __: LightningModule, batch: dict[str, TaskBatch], number: int) -> None:
        if number == 0:
            seen["items"] = tuple(batch[data.task])

    def note_gradients(run: Trainer, own: LightningModule, _: torch.optim.Optimizer) -> None:
        if run.global_step == 0:
            seen["gradients"] = {name: part.grad.clone() for name, part in own.named_parameters()}  # type: ignore[union-attr]

    watching: list[Callback] = [
        LambdaCallback(
            on_train_batch_start=note_items,
            on_before_optimizer_step=note_gradients,
            on_validation_start=lambda _, own: seen.setdefault("trained", state(own)),
        ),
        PopulationArtifact(),
    ]
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        # DDP would hand rank 0's statistics around by itself, though not after every kind of step.
        strategy=DDPStrategy(broadcast_buffers=False),
        max_epochs=1,
        limit_train_batches=40,
        num_sanity_val_steps=0,
        default_root_dir=place,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=watching,
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=data)
    seen["end"] = state(task)
    trainer.test(task, datamodule=data, verbose=False)
    return {**seen, **task.accuracies}
