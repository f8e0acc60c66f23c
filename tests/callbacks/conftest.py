"""A map task without training, and a trainer that looks at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from callbacks import RunCheckpoint
from datamodules import DigitsDataModule, SyntheticSentimentDataModule
from dynamo.meta import MetaTask, ResidualMetaModel
from dynamo.population import Member, MemberGroup, Population, PopulationTask, ResidualBundle

Fit = Callable[..., Trainer]


@pytest.fixture
def data() -> SyntheticSentimentDataModule:
    """60 items in validation, in batches of 25: the last one is smaller."""
    return SyntheticSentimentDataModule(
        train_size=600, test_size=50, batch_size=4, eval_batch_size=25, val_items=60, max_length=12
    )


@pytest.fixture
def members(data: SyntheticSentimentDataModule) -> PopulationTask:
    """Two groups of two GRUs, of different widths: two bundles."""
    groups = [
        MemberGroup("wide", count=2, hidden_size=6, embedding_size=4),
        MemberGroup("narrow", count=2, hidden_size=4, embedding_size=4),
    ]
    return PopulationTask(groups, data.vocab_size, data.classes)


@pytest.fixture
def task(data: SyntheticSentimentDataModule, members: PopulationTask, tmp_path: Path) -> MetaTask:
    """A meta-model of those four."""
    data.setup()
    folder = members.population(0, data.fingerprint, {}).save(tmp_path / "population")
    return MetaTask(str(folder), data.vocab_size, dimensions=3)


@pytest.fixture
def digits() -> DigitsDataModule:
    """50 images in validation, in batches of 20."""
    return DigitsDataModule(batch_size=4, eval_batch_size=20, val_items=50)


@pytest.fixture
def image_task(digits: DigitsDataModule) -> MetaTask:
    """A meta-model of four ResNets, of two widths: two bundles, whose states differ from stage to stage."""
    bundles, members = [], []
    for name, widths in (("wide", [6, 6, 8, 10]), ("narrow", [4, 6, 8, 9])):
        bundle = ResidualBundle(2, widths, [1, 1, 1, 1], 10)
        bundle.initialise([len(name), len(name) + 1])
        bundles.append(bundle)
        members.append([Member(f"{name}-{i}", name, digits.task, i, policy="flip_crop") for i in range(2)])

    def network(vocab_size: int, classes: Mapping[str, int], dimensions: int) -> ResidualMetaModel:
        return ResidualMetaModel(vocab_size, classes, dimensions, [5, 6, 7, 8], [1, 1, 1, 1])

    task = MetaTask(Population(bundles, members), digits.vocab_size, network=network, dimensions=3)
    torch.nn.init.normal_(task.embedding.theta)  # every member elsewhere
    return task


@pytest.fixture
def fit(data: SyntheticSentimentDataModule, tmp_path: Path) -> Fit:
    """Train a module for some epochs of 2 batches, watched by callbacks, in `tmp_path/run`."""

    def start(module: LightningModule, *watching: Callback, epochs: int = 2, on: LightningDataModule = data) -> Trainer:
        run = tmp_path / "run"
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            limit_train_batches=2,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            default_root_dir=run,
            logger=TensorBoardLogger(run, name="", version="", default_hp_metric=False),
            callbacks=[*watching, RunCheckpoint()],
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=on)
        return trainer

    return start
