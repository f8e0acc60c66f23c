"""A tiny data module, quiet trainers, and populations whose place on the map is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules import SyntheticSentimentDataModule
from datamodules.resident import TaskData
from dynamo.meta import MetaTask, RecurrentMetaModel
from dynamo.population import Member, Population, RecurrentBundle

VOCABULARY, UNITS = 30, 8
CLASSES = {"synthetic": ("negative", "positive"), "mirror": ("a", "b", "c")}


class Data(SyntheticSentimentDataModule):
    """The synthetic language in one or two tasks; the second has other reviews and a third class."""

    def __init__(self, two: bool = False, **options: Any) -> None:  # noqa: ANN401
        sizes = {"train_size": 120, "test_size": 40, "vocab_size": VOCABULARY, "min_length": 2, "max_length": 8}
        super().__init__(**{**sizes, "batch_size": 16, "eval_batch_size": 20, "window": 3, **options})
        if two:
            self.classes = CLASSES

    def load(self) -> dict[str, TaskData]:
        first = super().load()["synthetic"]
        if len(self.classes) == 1:
            return {"synthetic": first}
        return {"synthetic": first, "mirror": Data(data_seed=1).load()["synthetic"]}


@pytest.fixture
def make_data() -> Callable[..., Data]:
    return Data


@pytest.fixture
def make_trainer() -> Callable[..., pl.Trainer]:
    """A trainer that writes nothing and says nothing."""

    def make(max_steps: int = 3, **options: Any) -> pl.Trainer:  # noqa: ANN401
        quiet: dict[str, Any] = {
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "limit_val_batches": 0,
        }
        return pl.Trainer(max_steps=max_steps, **{**quiet, **options})

    return make


@pytest.fixture
def plant() -> Callable[[Tensor], tuple[RecurrentMetaModel, RecurrentBundle]]:
    """Base networks at points theta `[N, D]` of a network drawn at random, and that network."""

    def make(theta: Tensor) -> tuple[RecurrentMetaModel, RecurrentBundle]:
        source = RecurrentMetaModel(VOCABULARY, {"synthetic": 2}, theta.shape[1], UNITS, 6, embedding_scale=1.0)
        bundle = RecurrentBundle(len(theta), "gru", VOCABULARY, 6, UNITS, 2)
        head = source.heads["synthetic"]
        with torch.no_grad():
            head.weight *= 4.0  # answers that depend on the state
            bundle.embedding.copy_(source.embedding.weight.expand_as(bundle.embedding))
            bundle.weight_ih.copy_(source.weight_input.expand_as(bundle.weight_ih))
            bundle.bias_ih.copy_(source.bias_input + theta @ source.weight_theta.T)
            bundle.weight_hh.copy_(source.weight_state.expand_as(bundle.weight_hh))
            bundle.bias_hh.copy_(source.bias_state.expand_as(bundle.bias_hh))
            bundle.readout_weight.copy_(head.weight.expand_as(bundle.readout_weight))
            bundle.readout_bias.copy_(head.bias.expand_as(bundle.readout_bias))
        return source, bundle

    return make


@pytest.fixture
def save_bundle(tmp_path: Path) -> Callable[..., str]:
    """The folder of a population of one bundle; member i is called `m-i`."""

    def save(bundle: RecurrentBundle, name: str = "population", **options: Any) -> str:  # noqa: ANN401
        members = [Member(f"m-{i}", "m", "synthetic", i) for i in range(bundle.count)]
        return str(Population([bundle], [members], **options).save(tmp_path / name))

    return save


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """The folder of a population of two bundles of one task and one of another, nine members in all."""
    bundles, members = [], []
    for count, architecture, size, task in (
        (4, "gru", 5, "synthetic"),
        (3, "rnn", 6, "synthetic"),
        (2, "gru", 5, "mirror"),
    ):
        settings = {"vocab_size": VOCABULARY, "embedding_size": 3, "hidden_size": size, "embedding_scale": 1.0}
        bundle = RecurrentBundle.build(count, {"architecture": architecture, "classes": len(CLASSES[task]), **settings})
        bundle.initialise(range(count))
        bundles.append(bundle)
        members.append([Member(f"{architecture}-{task}-{i}", f"{architecture}-{task}", task, i) for i in range(count)])
    return str(Population(bundles, members, class_names=CLASSES).save(tmp_path / "mixed"))


@pytest.fixture
def make_task() -> Callable[..., MetaTask]:
    """A `MetaTask` with a small network."""

    def make(population: str | list[str], **options: Any) -> MetaTask:  # noqa: ANN401
        def network(vocab_size: int, classes: Any, dimensions: int) -> RecurrentMetaModel:  # noqa: ANN401
            return RecurrentMetaModel(vocab_size, classes, dimensions, 16, 8, embedding_scale=1.0)

        defaults = {"network": network, "dimensions": 3, "calibration_items": 50, "warmup_steps": 1}
        return MetaTask(population, VOCABULARY, **{**defaults, **options})

    return make
