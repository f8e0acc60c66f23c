"""A finished run as the analyses see it: the trained map, its networks, and the items to try them on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from datamodules.base import IndexedDataModule
from datamodules.loader import TrainBatches
from datamodules.schedule import TrainSchedule
from dynamo.analysis.averaging import base_accuracies
from dynamo.cli import load_run
from dynamo.meta import MetaTask
from dynamo.runs import RunFolder
from dynamo.types import Reader, TaskBatch, UserError

Batches = list[dict[str, TaskBatch]]


@dataclass(frozen=True)
class FinishedRun:
    """What is there to be analysed?

    Attributes:
        folder: of the run.
        task: the trained meta-model with its population, on `device`.
        data: its data module.
        device: where the networks run.
    """

    folder: RunFolder
    task: MetaTask
    data: IndexedDataModule
    device: torch.device

    @classmethod
    def load(cls, folder: RunFolder | Path | str, device: str = "auto") -> Self:
        """Read a run from its folder, such as `runs/demo/seed=0`; from Python or a notebook too.

        Args:
            folder: of the run.
            device: "auto" takes a GPU where there is one.

        Raises:
            UserError: there is no such run, it has not finished, or it is not that of a meta-model.
        """
        folder = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))
        cli = load_run(folder)
        if not isinstance(cli.model, MetaTask) or not isinstance(cli.datamodule, IndexedDataModule):
            raise UserError(f"{folder.root} is not the run of a meta-model; `analyze` needs one (configs/meta).")
        folder.check_finished()
        try:
            place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
            torch.zeros(1, device=place)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"--device {device} cannot be used here ({reason}); take cpu, cuda or auto.") from error
        cli.model.to(place).eval()
        cli.model.population.to(place)
        return cls(folder, cli.model, cli.datamodule, place)

    @property
    def groups(self) -> list[str]:
        """The group of every member, in the order of theta."""
        return [member.group for member in self.task.members]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the population, each once."""
        return tuple(dict.fromkeys(self.task.population.tasks))

    def index_of(self, name: str) -> int:
        """The row of theta that belongs to a member.

        Raises:
            UserError: there is no such member.
        """
        names = [member.name for member in self.task.members]
        if name not in names:
            raise UserError(f"no member {name!r}; the population has {', '.join(names)}.")
        return names.index(name)

    def place_of(self, index: int) -> tuple[int, int]:
        """In which bundle, and where in it, is the member of a row of theta?"""
        for number, bundle in enumerate(self.task.population.bundles):
            if index < bundle.count:
                return number, index
            index -= bundle.count
        raise IndexError("there are not so many members")

    def bundles_of(self, task: str) -> list[int]:
        """Which bundles hold the members of a task?"""
        return [number for number, name in enumerate(self.task.population.tasks) if name == task]

    @cached_property
    def loaded(self) -> IndexedDataModule:
        """The data module with its data; read only when an analysis asks for it."""
        self.data.prepare_data()
        self.data.setup("test")
        return self.data

    @property
    def words(self) -> Sequence[str]:
        """The word of every token id.

        Raises:
            UserError: the data has no words.
        """
        words: Sequence[str] | None = getattr(self.loaded, "words", None)
        if words is None:
            raise UserError(f"{type(self.data).__name__} has no words; this analysis is about networks that read.")
        return words

    @cached_property
    def test_batches(self) -> Batches:
        """The test items of the run's configuration."""
        return self.batches("test", self.data.test_items)

    @cached_property
    def held_out_batches(self) -> Batches:
        """All validation items: neither the members nor the meta-model were trained on them."""
        return self.batches("val", None)

    @cached_property
    def calibration_batch(self) -> dict[str, TaskBatch]:
        """The training items on which the meta-model measured the spread of the members' states."""
        found = self.loaded.calibration_batch(self.task.calibration_items)
        return {task: self._here(part) for task, part in found.items()}

    def training_stream(self, seed: int = 0) -> Iterator[dict[str, TaskBatch]]:
        """Training items as the meta-model reads them, in another order and without end: all tasks in every batch."""
        data = self.loaded
        splits = {task: found.train for task, found in data.data.items()}
        schedules = {
            task: TrainSchedule(
                s.lengths, s.labels, [Reader(task, seed=seed)], data.batch_size, data.seed, 0, 1, data.window
            )
            for task, s in splits.items()
        }
        batches = TrainBatches(schedules, 1, shared=True)
        for step in count():
            yield {task: self._here(data.gather(task, part)) for task, part in batches[step].items()}

    def batches(self, split: str, items: int | None) -> Batches:
        """Items of a split (a fixed class-balanced draw, or all), in batches, on the device."""
        return [{task: self._here(part) for task, part in batch.items()} for batch in self.loaded.batches(split, items)]

    def batch(self, split: str, task: str, positions: Tensor) -> TaskBatch:
        """The items at these positions of a split, on the device."""
        return self._here(self.loaded.batch(split, task, positions))

    def _here(self, batch: TaskBatch) -> TaskBatch:
        return TaskBatch(*(part.to(self.device) for part in batch))

    @cached_property
    def base_accuracies(self) -> dict[str, Tensor]:
        """Test accuracy of the base models of every task, float64 `[members of the task]`."""
        return base_accuracies(self.task.population, self.test_batches)

    def need_answers(self, what: str) -> None:
        """Refuse an analysis of answers where G was not trained.

        Raises:
            UserError: lambda is 0.
        """
        if self.task.output_weight == 0:
            raise UserError(
                f"{what} asks for answers, and with output_weight (lambda) 0 the readout G was not trained. Train a "
                "map with output_weight 1, if the networks have answers, or ask it about states (embedding, "
                "similarity)."
            )
