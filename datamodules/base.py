"""What does every data module share? Resident tensors, loaders of indices, and the gathering in between."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from datamodules.loader import EvalBatches, IndexLoader, TrainBatches
from datamodules.resident import Resident, TaskData
from datamodules.schedule import EvalSchedule, IndexBatch, TrainSchedule, balanced_draw
from dynamo.types import HasCompany, HasReaders, Reader, TaskBatch

_CALIBRATION, _GATHER = 11, 12


def check_at_least(least: int, **options: int) -> None:
    """Refuse options below `least`, naming option, value and remedy."""
    for name, value in options.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}: set {name} to {least} or more.")


class IndexedDataModule(LightningDataModule):
    """Which items does each network read at each step, and where do they come from?

    The loaders yield indices, a pure function of (seed, step, rank); `on_after_batch_transfer` gathers the
    items from tensors that live on the device. A LightningModule that has `readers` gets training batches in
    which every member reads its own items (`[N, B, ...]`); any other gets one common stream (`[B, ...]`).
    Evaluation is always common, covers every item once over all processes, and yields one task at a time.

    Subclasses set `classes` and `vocab_size` in `__init__` and implement `load` and `vocabulary_digest`.

    Attributes:
        policies: the ways of augmenting that its readers may name.
        classes: task -> class names; known before `setup`.
        vocab_size: rows of the table of word vectors; known before `setup`; 0 for images.
        batch_size: items per member, step and process in training.
        eval_batch_size: items per batch in evaluation.
        seed: decides the order of the items and the random crops.
        window: batches per length bucket.
        val_items: how many items of each task validation reads, a fixed class-balanced draw; None for all.
        test_items: the same for the test split.

    Raises:
        ValueError: a number is out of its range; the message names the option.

    Examples:
        >>> from datamodules import SyntheticSentimentDataModule
        >>> data = SyntheticSentimentDataModule(train_size=200, val_fraction=0.1, eval_batch_size=8)
        >>> data.setup()
        >>> sum(len(batch["synthetic"].targets) for batch in data.batches("val"))  # every item once
        20
        >>> drawn = data.batch("val", "synthetic", data.drawn("val", "synthetic", items=6))
        >>> drawn.targets.bincount()  # as many of each class
        tensor([3, 3])
    """

    policies: ClassVar[tuple[str, ...]] = ("none",)
    classes: dict[str, tuple[str, ...]]
    vocab_size: int

    def __init__(
        self,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        seed: int = 0,
        window: int = 50,
        val_items: int | None = None,
        test_items: int | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size, window=window)
        check_at_least(0, seed=seed)
        for name, count in (("val_items", val_items), ("test_items", test_items)):
            if count is not None:
                check_at_least(1, **{name: count})
        self.val_items, self.test_items = val_items, test_items
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.seed, self.window = seed, window
        self._data: dict[str, TaskData] | None = None
        self._on_device: dict[tuple[str, str, torch.device], Resident] = {}

    @abstractmethod
    def load(self) -> dict[str, TaskData]:
        """Read every task's splits, as `prepare_data` left them; called once per process."""

    @abstractmethod
    def vocabulary_digest(self) -> str:
        """The sha256 of what gives token ids their meaning; called after `load`."""

    def setup(self, stage: str | None = None) -> None:
        """Load all splits, whatever the stage: they are small, and `classes` of one stage hold for all."""
        if self._data is None:
            self._data = self.load()
            for found in self._data.values():  # refuses what no loader could draw, before anything is trained
                balanced_draw(found.val.labels, self.val_items)
                balanced_draw(found.test.labels, self.test_items)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of their batches."""
        return tuple(self.classes)

    @property
    def data(self) -> dict[str, TaskData]:
        """The loaded tasks.

        Raises:
            RuntimeError: before `setup`.
        """
        if self._data is None:
            raise RuntimeError(f'{type(self).__name__} holds no data yet: call prepare_data() and setup("fit") first.')
        return self._data

    @property
    def fingerprint(self) -> dict[str, str]:
        """Are two runs about the same words and data? The sha256 of the vocabulary and of the data."""
        parts = "\n".join(f"{task} {self.data[task].digest}" for task in self.tasks)
        return {"vocabulary": self.vocabulary_digest(), "data": hashlib.sha256(parts.encode()).hexdigest()}

    @property
    def reading(self) -> dict[str, Any]:
        """What else decides which items are read at each step, and how much of them; plain values."""
        own = {name: getattr(self, name) for name in ("batch_size", "seed", "window")}
        return {**own, **{name: getattr(self, name) for name in ("max_length", "keep") if hasattr(self, name)}}

    def train_dataloader(self) -> IndexLoader:
        """Endless training batches, continued at the trainer's own count: all tasks at every step."""
        rank, world = self._placement()
        readers, company = self._readers(), self._readers(whole=True)
        streams = readers or {task: [Reader(task)] for task in self.tasks}
        schedules = {}
        for task, members in streams.items():
            split = self.data[task].train
            options = (self.batch_size, self.seed, rank, world, self.window, company[task] if company else None)
            schedules[task] = TrainSchedule(split.lengths, split.labels, members, *options)
        largest = max(len(self.data[task].train.labels) for task in company or streams)
        per_epoch = max(1, -(-largest // (self.batch_size * world)))
        trainer = self.trainer
        if trainer is None:
            return IndexLoader(TrainBatches(schedules, per_epoch, shared=readers is None))
        overfit: int | float = trainer.overfit_batches  # type: ignore[attr-defined]
        repeat = int(overfit * per_epoch) if isinstance(overfit, float) else overfit
        batches = TrainBatches(schedules, per_epoch, shared=readers is None, repeat=repeat)
        progress = trainer.fit_loop.epoch_loop.batch_progress
        return IndexLoader(batches, lambda: progress.total.processed)  # type: ignore[attr-defined]

    def val_dataloader(self) -> IndexLoader:
        """Every validation item once."""
        return self._eval_loader("val")

    def test_dataloader(self) -> IndexLoader:
        """Every test item once."""
        return self._eval_loader("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ANN401
        """From `dict[str, IndexBatch]` to `dict[str, TaskBatch]`, on the device the indices are on."""
        return {task: self.gather(task, part) for task, part in batch.items()}

    def gather(self, task: str, batch: IndexBatch) -> TaskBatch:
        """The items an `IndexBatch` names, on the device of its indices."""
        rngs = None
        if batch.step >= 0:
            streams = (self._readers() or {}).get(task, [Reader(task)])
            place = (_GATHER, self.seed, batch.step, self._placement()[0])
            rngs = (
                np.random.default_rng([*place, reader.seed]) for reader in streams
            )  # made where they are drawn from
        return self._resident(task, batch).gather(batch.indices, batch.longest, rngs)

    def batch(self, split: str, task: str, indices: Tensor | Sequence[int]) -> TaskBatch:
        """Items at positions (`[B]` or `[N, B]`) of a split, else an IndexError; on the CPU, read as in evaluation."""
        if task not in self.data:
            raise ValueError(f"unknown task {task!r}: this data module has {', '.join(self.tasks)}.")
        found = self.data[task].split(split)
        positions = torch.as_tensor(indices, dtype=torch.int64)
        items = len(found.labels)
        if positions.numel() == 0 or int(positions.min()) < 0 or int(positions.max()) >= items:
            raise IndexError(f"positions in split {split!r} of {task!r} must lie in 0..{items - 1}: {indices}.")
        return found.gather(positions, int(found.lengths[positions].max()), None)

    def drawn(self, split: str, task: str, items: int | None = None) -> Tensor:
        """Positions in a split, shortest item first, int64 `[items]`: a fixed class-balanced draw, or all."""
        found = self.data[task].split(split)
        chosen = balanced_draw(found.labels, items)
        positions = np.arange(len(found.labels)) if chosen is None else np.sort(chosen)
        return torch.from_numpy(positions[np.argsort(found.lengths.numpy()[positions], kind="stable")])

    def batches(self, split: str, items: int | None = None) -> Iterator[dict[str, TaskBatch]]:
        """A split as an analysis reads it: the same batches on every rank, on the CPU, one task after the other.

        Args:
            split: train, val or test; training items too are read as in evaluation.
            items: how many of each task, see `drawn`; None for all.
        """
        for task in self.tasks:
            for positions in self.drawn(split, task, items).split(self.eval_batch_size):
                yield {task: self.batch(split, task, positions)}

    def calibration_batch(self, count: int) -> dict[str, TaskBatch]:
        """A fixed draw of up to `count` training items per task, on the CPU; the same on every rank."""
        check_at_least(1, count=count)
        drawn = {}
        for number, task in enumerate(self.tasks):
            items = len(self.data[task].train.labels)
            rng = np.random.default_rng([_CALIBRATION, self.seed, number])
            chosen = rng.permutation(items)[:count].astype(np.int64)
            drawn[task] = self.batch("train", task, torch.from_numpy(chosen))
        return drawn

    def check_readers(self, readers: Sequence[Reader]) -> None:
        """Refuse readers of a task or policy that is not here, by ValueError; asked before a run begins."""
        for number, reader in enumerate(readers):
            if reader.task not in self.classes:
                raise ValueError(f"a member reads task {reader.task!r}, but the data has {', '.join(self.tasks)}.")
            if reader.policy not in self.policies:
                raise ValueError(
                    f"member {number} (the first is 0) has policy {reader.policy!r}, but {type(self).__name__} knows "
                    f"{', '.join(self.policies)}: correct the policy of its group."
                )

    def _resident(self, task: str, batch: IndexBatch) -> Resident:
        """The split an `IndexBatch` is of, moved once to the device of its indices."""
        key = (task, batch.split, batch.indices.device)
        if key not in self._on_device:
            self._on_device[key] = self.data[task].split(batch.split).to(batch.indices.device)
        return self._on_device[key]

    def _placement(self) -> tuple[int, int]:
        """Rank and world size; 0 and 1 without a trainer."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _readers(self, whole: bool = False) -> dict[str, list[Reader]] | None:
        """The members' readers by task (with `whole` those of their whole population), or None for a common stream."""
        module = None if self.trainer is None else self.trainer.lightning_module
        if not isinstance(module, HasReaders):
            return None
        if not module.readers:
            raise ValueError(f"{type(module).__name__}.readers is empty: a population needs a member.")
        readers = module.company if whole and isinstance(module, HasCompany) else module.readers
        grouped: dict[str, list[Reader]] = {task: [] for task in self.tasks}
        self.check_readers(readers)
        for reader in readers:
            grouped[reader.task].append(reader)
        return {task: members for task, members in grouped.items() if members}

    def _eval_loader(self, split: str) -> IndexLoader:
        """Every item of a split once over all ranks; tasks that no member reads are left out."""
        rank, world = self._placement()
        limit = self.val_items if split == "val" else self.test_items
        schedules = {
            task: EvalSchedule(
                self.data[task].split(split).lengths,
                self.eval_batch_size,
                split,
                rank,
                world,
                balanced_draw(self.data[task].split(split).labels, limit),
            )
            for task in self._readers() or self.tasks
        }
        return IndexLoader(EvalBatches(schedules), lambda: 0)
