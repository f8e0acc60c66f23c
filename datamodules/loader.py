"""Who hands the batches out? A loader that knows where the run stands, and the two sequences it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from datamodules.schedule import EvalSchedule, IndexBatch, TrainSchedule

Batch = dict[str, IndexBatch]


class Batches(Protocol):
    """A sequence of batches; its length is one epoch."""

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def __getitem__(self, k: int) -> Batch:
        """Batch `k`."""
        ...


class TrainBatches:
    """Batch k of the run over all tasks at once; any k is valid, `len` is one epoch.

    Args:
        schedules: the readers of every task.
        per_epoch: how many batches make up an epoch.
        shared: leave out the leading `N` (there is one reader per task).
        repeat: if not 0, batches 0 .. repeat-1 over and over (Lightning's `overfit_batches`).
    """

    def __init__(self, schedules: Mapping[str, TrainSchedule], per_epoch: int, shared: bool, repeat: int = 0) -> None:
        self._schedules, self._per_epoch, self._shared, self._repeat = schedules, per_epoch, shared, repeat

    def __len__(self) -> int:
        """Batches per epoch."""
        return self._per_epoch

    def __getitem__(self, k: int) -> Batch:
        """Batch `k` of the run: one entry per task."""
        number = k % self._repeat if self._repeat else k
        batch = {task: schedule.batch(number) for task, schedule in self._schedules.items()}
        if self._shared:
            return {task: part._replace(indices=part.indices[0]) for task, part in batch.items()}
        return batch


class EvalBatches:
    """All batches of the first task, then all of the second: one key at a time, every item once."""

    def __init__(self, schedules: Mapping[str, EvalSchedule]) -> None:
        self._batches: list[Batch] = [
            {task: schedule.batch(k)} for task, schedule in schedules.items() for k in range(len(schedule))
        ]

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self._batches)

    def __getitem__(self, k: int) -> Batch:
        """Batch `k` of this rank."""
        return self._batches[k]


class IndexLoader:
    """One epoch of batches per iteration, beginning where the run stands.

    Resuming is counting: `position` is read at the first `next()`, when Lightning has restored its counters,
    and batch k depends on nothing else. Without `position` the loader counts for itself and goes on where it
    stopped.

    It is not a `torch.utils.data.DataLoader`: those Lightning takes apart, to deal the batches out to the
    processes a second time or to replace their order, and warns that they have no workers. Here there is
    nothing for workers to do (a batch is a few hundred indices), and no random number is drawn.
    """

    def __init__(self, batches: Batches, position: Callable[[], int] | None = None) -> None:
        self.batches = batches
        self._position = position
        self._counted = 0

    def __len__(self) -> int:
        """Batches per epoch, on this rank."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield one epoch of batches; a generator, so that nothing runs before the first `next()`."""
        start = self._counted if self._position is None else self._position()
        for k in range(start, start + len(self)):
            self._counted = k + 1
            yield self.batches[k]

    def state_dict(self) -> dict[str, Any]:
        """Nothing: that it exists tells Lightning that the loader can be resumed."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Nothing to load: the position is Lightning's own counter."""
