"""Does the memory of a meta-model's training step follow the count of bytes in the docstring of `ResidualMetaModel`?

    python -m pytest -q benchmarks/bench_memory.py     # half a minute on two cores

Each row is a process of its own that takes two training steps of `MetaTask` on N frozen narrow ResNets and B random
images, and tells the most memory it ever had. What a pair of member and image costs is the difference between two
sizes over the difference of their pairs; it is set against the count. The count is of what waits for the backward
pass; a peak has on top of it what lives for a moment.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytorch_lightning as pl
import torch

from dynamo.meta import MetaTask, ResidualMetaModel
from dynamo.meta.residual import numbers_kept
from dynamo.population import Member, Population, ResidualBundle
from dynamo.types import TaskBatch

WIDTHS, DEPTHS = [16, 32, 64, 128], [1, 1, 1, 1]
SIZES = ((4, 32), (8, 64), (16, 64))
LEAST, MOST = 0.7, 1.9
"""The peak may be so many times the count: with more, 20 ResNet-34s at batch 128 would not fit 40 GB."""


def peak(members: int, items: int) -> int:
    """The most memory of this process, in bytes, after two training steps."""
    bundle = ResidualBundle(members, WIDTHS, DEPTHS, 10)
    bundle.initialise(range(members))
    population = Population([bundle], [[Member(f"m-{i}", "m", "images", i) for i in range(members)]])
    task = MetaTask(population, 0, network=partial(ResidualMetaModel, widths=WIDTHS, depths=DEPTHS), dimensions=8)
    task.log = task.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment,misc]
    task.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    ones = torch.ones(items, dtype=torch.int64)
    for _ in range(2):
        task.training_step({"images": TaskBatch(torch.randn(items, 3, 32, 32), ones, ones)}, 0).backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_memory(table: Callable[[str], None]) -> None:
    peaks = []
    for members, items in SIZES:
        words = [sys.executable, __file__, str(members), str(items)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.split()[-1]))
    stages = sum(width * side**2 for width, side in zip(WIDTHS, (32, 16, 8, 4), strict=True))
    counted = 4 * (numbers_kept(WIDTHS, DEPTHS) + 3 * stages)  # and the gaps, and both sides' stages
    pairs = [members * items for members, items in SIZES]
    for (members, items), more, bytes_more in zip(
        SIZES[1:], [pairs[1] - pairs[0], pairs[2] - pairs[1]], [peaks[1] - peaks[0], peaks[2] - peaks[1]], strict=True
    ):
        ratio = bytes_more / more / counted
        told = f"{bytes_more / more / 1e3:.0f} kB a pair, {ratio:.2f} of the count"
        table(f"up to {members} members x {items} images: {told}")
        assert LEAST < ratio < MOST


if __name__ == "__main__":
    sys.stdout.write(f"{peak(int(sys.argv[1]), int(sys.argv[2]))}\n")
