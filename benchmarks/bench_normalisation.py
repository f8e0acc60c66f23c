"""Which normalisation serves every theta: group norm, or batch norm with its running averages?

    python -m pytest -q benchmarks/bench_normalisation.py     # about three minutes on two cores

A population of small ResNets on scikit-learn's digits, half of them trained on a tenth of the items, is emulated twice,
by meta-models that differ in nothing but `normalisation`. Told for test items, at the members' thetas: agreement,
variance of the states explained and accuracy; accuracy at the mean theta, where no member is; and for batch norm the
same agreement with the statistics of the test batch and point at hand in place of the running averages.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from datamodules import DigitsDataModule
from dynamo.analysis import accuracy_at
from dynamo.analysis.fidelity import Fidelity, FidelitySums
from dynamo.meta import MetaTask, ResidualMetaModel
from dynamo.meta.residual import Normalisation
from dynamo.population import MemberGroup, Population, PopulationTask

WIDTHS, DEPTHS = [8, 16, 24, 32], [1, 1, 1, 1]


def trainer(steps: int) -> pl.Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "limit_val_batches": 0,
    }
    return pl.Trainer(max_steps=steps, accelerator="cpu", **quiet)


@pytest.fixture(scope="module")
def population() -> Population:
    def group(name: str, fraction: float) -> MemberGroup:
        return MemberGroup(
            name, 3, architecture="resnet", widths=WIDTHS, depths=DEPTHS, policy="flip_crop", fraction=fraction
        )

    data = DigitsDataModule(batch_size=64)
    task = PopulationTask([group("100%", 1.0), group("10%", 0.1)], 0, data.classes, 0.1, 5e-4, 0.0, optimizer="sgd")
    trainer(100).fit(task, data)
    return task.population(0, data.fingerprint, {})


def fitted(population: Population, normalisation: Normalisation) -> MetaTask:
    torch.manual_seed(0)
    network = partial(ResidualMetaModel, widths=[16, 32, 48, 64], depths=DEPTHS, normalisation=normalisation)
    task = MetaTask(population, 0, network=network, dimensions=4, lr=5e-3, theta_lr=0.1)
    trainer(300).fit(task, DigitsDataModule(batch_size=16))
    return task


@torch.no_grad()
def fidelity(task: MetaTask, data: DigitsDataModule) -> Fidelity:
    """How well the emulators follow on test items, in the mode the task is in."""
    sums = FidelitySums(len(task.members), task.population.bundles[0].hidden_sizes)
    for batch in data.batches("test"):
        (found,) = task.compare(batch)
        sums.update(found.original, found.mapped, found.emulated, found.batch.targets)
    return sums.result()


def test_normalisation(population: Population, table: Callable[[str], None]) -> None:
    group, batch = (measured(population, kind, table) for kind in ("group", "batch"))
    assert group > batch


def measured(population: Population, normalisation: Normalisation, table: Callable[[str], None]) -> float:
    """Agreement of the emulators as they are used, in evaluation mode."""
    task, data = fitted(population, normalisation), DigitsDataModule()
    data.setup("test")
    batches = list(data.batches("test"))
    found = fidelity(task.eval(), data)
    middle = accuracy_at(task.network, task.theta.mean(0, keepdim=True), "digits", batches)
    at_hand = ""
    if normalisation == "batch":
        task.network.train()
        at_hand = f", with the statistics at hand {float(fidelity(task, data).agreement.mean()):.3f}"
    table(
        f"{normalisation} norm: agreement {float(found.agreement.mean()):.3f}{at_hand}, variance explained "
        f"{float(found.variance_explained.mean()):.3f}, accuracy {float(found.accuracy.mean()):.3f} (originals "
        f"{float(found.original_accuracy.mean()):.3f}), at the mean theta {float(middle):.3f}"
    )
    return float(found.agreement.mean())
