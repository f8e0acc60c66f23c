"""Is training a population of ResNets bound by the convolutions, or does it wait for its images?

    DYNAMO_DATA=... python -m pytest -q benchmarks/bench_image_loading.py     # a minute or two on two cores
    DYNAMO_BENCH_ROUNDS=15 python -m pytest -q benchmarks/bench_image_loading.py

The real `PopulationTask` in the real `Trainer`, in turns: on CIFAR-100 through its data module (indices, uint8 images
on the device, flips and crops; scikit-learn's digits where DYNAMO_DATA has no CIFAR-100), and on one batch of noise
that lies on the device already. Images per second count every member's. The ratio is that of the medians, which must be
at least 0.95 on an idle machine; "best" is that of the fastest turns. The laptop's networks run
anywhere, a ResNet-34 at bf16 on a GPU; there, "peak" is the most memory a turn took.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.data import DataLoader

from datamodules import CIFAR100DataModule, DigitsDataModule
from datamodules.images import ImageDataModule
from dynamo.population import MemberGroup, PopulationTask
from dynamo.types import TaskBatch

ROUNDS = int(os.environ.get("DYNAMO_BENCH_ROUNDS", "7"))
LEAST = 0.95


class Case(NamedTuple):
    """What is trained, and for how long."""

    name: str
    widths: list[int]
    depths: list[int]
    members: int
    batch_size: int
    accelerator: str
    precision: Any
    warm_up: int
    steps: int


CASES = [
    Case("laptop", [8, 16, 32, 64], [1, 1, 1, 1], 4, 128, "cpu", "32-true", 2, 6),
    Case("ResNet-34", [64, 128, 256, 512], [3, 4, 6, 3], 2, 128, "gpu", "bf16-mixed", 10, 40),
]


class Clock(pl.Callback):
    """Seconds that the steps after the warm-up took, until the device was done."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.start = self.seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Look at the clock where the warm-up ends, and at the end."""
        if trainer.global_step not in (self.case.warm_up, self.case.warm_up + self.case.steps):
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.start, self.seconds = time.perf_counter(), time.perf_counter() - self.start


class OnDevice(pl.LightningDataModule):
    """One batch of noise again and again, which no step has to wait for."""

    def __init__(self, case: Case, data: ImageDataModule) -> None:
        super().__init__()
        device = torch.device("cuda" if case.accelerator == "gpu" else "cpu")
        lead = (case.members, case.batch_size)
        targets = torch.randint(len(data.classes[data.task]), lead, device=device)
        images = torch.randn(*lead, 3, 32, 32, device=device)
        self.batches = [{data.task: TaskBatch(images, targets, torch.ones_like(targets))}]
        self.batches *= case.warm_up + case.steps

    def train_dataloader(self) -> DataLoader[Any]:
        """As many batches as steps."""
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


def real_data(batch_size: int) -> ImageDataModule:
    """CIFAR-100 where it is, else the digits."""
    folder = Path(os.environ.get("DYNAMO_DATA", ""), "cifar-100-python")
    if os.environ.get("DYNAMO_DATA") and folder.is_dir():
        return CIFAR100DataModule(verify=False, batch_size=batch_size)
    return DigitsDataModule(batch_size=batch_size)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_images_per_second(case: Case, benchmark: BenchmarkFixture, table: Callable[[str], None]) -> None:
    if case.accelerator == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and this machine has none")
    pl.seed_everything(0, verbose=False)
    data = real_data(case.batch_size)
    synthetic = OnDevice(case, data)
    group = MemberGroup(
        "g", case.members, architecture="resnet", widths=case.widths, depths=case.depths, policy="flip_crop"
    )
    model = PopulationTask([group], 0, data.classes, lr=0.01, optimizer="sgd", clip=0.0, schedule="constant")

    def turn(source: pl.LightningDataModule) -> float:
        clock = Clock(case)
        trainer = pl.Trainer(
            max_steps=case.warm_up + case.steps,
            accelerator=case.accelerator,
            devices=1,
            precision=case.precision,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
        )
        trainer.fit(model, source)
        return case.members * case.batch_size * case.steps / clock.seconds

    real, device = [], []
    turn(data)  # reads the files
    # `setup` runs before each round and is not part of it: so the turns alternate.
    benchmark.pedantic(lambda: real.append(turn(data)), setup=lambda: device.append(turn(synthetic)), rounds=ROUNDS)
    ratio, best = median(real) / median(device), max(real) / max(device)
    benchmark.extra_info.update(ratio=ratio, best=best)
    peak = f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if case.accelerator == "gpu" else ""
    table(
        f"{case.name}, {case.members} members, batch {case.batch_size}: {median(real):.0f} images/s from "
        f"{type(data).__name__}, {median(device):.0f} on the device already, ratio {ratio:.3f}, best {best:.3f}{peak}"
    )
    assert ratio >= LEAST
