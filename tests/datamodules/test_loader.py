"""Does the loader go on where the run stands, and do joint batches come as promised?"""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from lightning_fabric.utilities.types import _Stateful

from datamodules.loader import EvalBatches, IndexLoader, TrainBatches
from datamodules.schedule import EvalSchedule, IndexBatch, TrainSchedule
from dynamo.types import Reader

LENGTHS = np.arange(1, 41)
LABELS = np.arange(40) % 2


def batches(shared: bool = False, repeat: int = 0) -> TrainBatches:
    readers = [Reader("a")] if shared else [Reader("a", seed=n) for n in range(3)]
    schedules = {task: TrainSchedule(LENGTHS, LABELS, readers, 4) for task in ("a", "b")}
    return TrainBatches(schedules, 10, shared, repeat)


def steps(loader: IndexLoader) -> list[int]:
    return [batch["a"].step for batch in loader]


def test_an_epoch_begins_at_the_position_read_at_the_first_next() -> None:
    position = 0
    loader = IndexLoader(batches(), lambda: position)
    iterator = iter(loader)
    position = 23  # what Lightning restores after it has called iter()
    assert [batch["a"].step for batch in islice(iterator, 3)] == [23, 24, 25]
    position = 30
    assert steps(loader) == list(range(30, 40))


def test_without_a_position_the_loader_counts_for_itself() -> None:
    loader = IndexLoader(batches())
    assert steps(loader) == list(range(10))
    assert [batch["a"].step for batch in islice(loader, 3)] == [10, 11, 12]
    assert steps(loader) == list(range(13, 23))


def test_lightning_takes_the_loader_for_resumable_and_leaves_it_alone() -> None:
    loader = IndexLoader(batches())
    assert isinstance(loader, _Stateful)
    assert loader.state_dict() == {}
    loader.load_state_dict({})
    assert len(loader) == 10
    assert not isinstance(loader, torch.utils.data.DataLoader)


def test_iterating_draws_no_random_number() -> None:
    before = torch.random.get_rng_state()
    steps(IndexLoader(batches()))
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_reads_all_tasks_at_every_step() -> None:
    batch = batches()[7]
    assert list(batch) == ["a", "b"]
    assert all(isinstance(part, IndexBatch) and part.indices.shape == (3, 4) for part in batch.values())
    assert batches(shared=True)[7]["b"].indices.shape == (4,)


def test_overfitting_repeats_the_first_batches() -> None:
    few = batches(repeat=2)
    assert torch.equal(few[0]["a"].indices, few[6]["a"].indices)
    assert not torch.equal(few[0]["a"].indices, few[7]["a"].indices)


def test_evaluation_reads_one_task_after_the_other() -> None:
    schedules = {task: EvalSchedule(LENGTHS, 16, "val") for task in ("a", "b")}
    found = [list(batch) for batch in IndexLoader(EvalBatches(schedules), lambda: 0)]
    assert found == [["a"], ["a"], ["a"], ["b"], ["b"], ["b"]]
