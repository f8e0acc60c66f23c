"""What every callback of this project shares: a question asked every so many epochs, and what asking costs."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from callbacks.captions import PICTURES
from callbacks.pictures import is_last, is_pictured
from dynamo.event_files import RunBoard
from dynamo.figures.style import save_png
from dynamo.meta import MetaTask
from dynamo.runs import RunFolder
from dynamo.types import TaskBatch

log = logging.getLogger(__name__)


def writer(trainer: Trainer) -> SummaryWriter | None:
    """The TensorBoard writer of this process; None on other ranks than 0 and without a TensorBoard logger."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            board: SummaryWriter = logger.experiment
            return board
    return None


def run_board(trainer: Trainer) -> RunBoard | None:
    """The run's own logger; None on other ranks than 0, and where another was chosen."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, RunBoard)]
    return boards[0] if boards and trainer.is_global_zero else None


def run_folder(trainer: Trainer) -> RunFolder:
    """The folder of this run."""
    return RunFolder(Path(trainer.default_root_dir))


def steps_of(trainer: Trainer) -> int:
    """How many steps the weights have been trained that are trained or measured here."""
    return trainer.global_step or getattr(trainer.lightning_module, "trained_steps", 0)


def show(trainer: Trainer, name: str, figure: Figure) -> None:
    """Put a figure into TensorBoard and, as `figures/NAME.png`, into the run folder; then it is empty.

    Its tag in TensorBoard is the name, or what `callbacks/captions.py` makes of it to have the pictures in order.
    """
    board = writer(trainer)
    if board is not None:
        board.add_figure(PICTURES.get(name, name), figure, global_step=steps_of(trainer), close=False)
    save_png(figure, run_folder(trainer).figures / f"{name.replace('/', '_')}.png")
    figure.clear()  # its parts refer to each other: until Python looks for such circles, dozens of figures pile up


@runtime_checkable
class Items(Protocol):
    """A data module that hands out items beside the loaders' batches; those of this project do."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        ...

    def drawn(self, split: str, task: str, items: int | None = None) -> Tensor:
        """Positions of a fixed class-balanced draw of a split."""
        ...

    def batch(self, split: str, task: str, indices: Tensor) -> TaskBatch:
        """The items at these positions."""
        ...


def held_out(trainer: Trainer, task: MetaTask, items: int, rank: int = 0, world: int = 1) -> dict[str, TaskBatch]:
    """A fixed draw of validation items of every task that the population knows, on the device of the meta-model.

    Args:
        trainer: whose data module is asked.
        task: the meta-model.
        items: how many of each task.
        rank: takes every `world`-th item only, this one first; a task without an item for it is left out.
        world: how many share the items.

    Raises:
        NothingToShowError: the data module hands out no items, or not so few.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, Items):
        raise NothingToShowError(f"{type(data).__name__} has no `drawn` and `batch` (see datamodules/base.py)")
    names = dict.fromkeys(task.population.tasks)
    try:
        drawn = {name: data.drawn("val", name, items)[rank::world] for name in names}
    except ValueError as error:
        raise NothingToShowError(f"{error} ({items} items were asked for)") from error
    return {
        name: TaskBatch(*(part.to(task.device) for part in data.batch("val", name, positions)))
        for name, positions in drawn.items()
        if len(positions)
    }


class NothingToShowError(Exception):
    """A callback's question makes no sense for this run; the message says why and what would help."""


class MapCallback(Callback, ABC):
    """One question about the map, asked every so many epochs of a `MetaTask`; inert for any other module.

    `compute` runs on every rank, so it may gather; `log_numbers` and, in at most a hundred epochs of a run, `draw`
    run on rank 0 alone. How long all took, as a share of the time since the epoch began, is logged as `cost/NAME`.
    Where `compute` finds that there is nothing to ask (every rank finds the same), the callback says so once and keeps
    still: a picture is no reason to stop a training.

    Args:
        every_n_epochs: how often, in epochs; 0 turns the callback off. The last is always included.

    Raises:
        ValueError: `every_n_epochs` is negative.
    """

    name: ClassVar[str]

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 0:
            raise ValueError(f"{type(self).__name__}: every_n_epochs is {every_n_epochs}; 0 turns it off.")
        self.every_n_epochs = every_n_epochs
        self._epoch_began = 0.0
        self._said = ""

    @abstractmethod
    def compute(self, trainer: Trainer, task: MetaTask) -> Any:  # noqa: ANN401 - whatever `draw` takes
        """The answer, on every rank.

        Raises:
            NothingToShowError: the question makes no sense for this run, or not yet.
        """

    def log_numbers(self, trainer: Trainer, task: MetaTask, answer: Any) -> None:  # noqa: ANN401
        """Write what is small enough for every epoch that is asked about, on rank 0."""

    @abstractmethod
    def draw(self, trainer: Trainer, task: MetaTask, answer: Any) -> None:  # noqa: ANN401
        """Show the answer, on rank 0, in the epochs that are pictured."""

    def due(self, trainer: Trainer) -> bool:
        """Whether this epoch is one of those that are asked about."""
        if not self.every_n_epochs or trainer.sanity_checking:
            return False
        return is_last(trainer) or (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when the epoch began, for a run that goes on in the middle of one."""
        self._epoch_began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when the epoch began."""
        self._epoch_began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask, show, and log the cost."""
        if not isinstance(pl_module, MetaTask) or not self.due(trainer):
            return
        began = time.perf_counter()
        training = pl_module.network.training
        pl_module.network.eval()  # as it will be used; in training mode batch norms would take notice of the question
        try:
            answer = self.compute(trainer, pl_module)
        except NothingToShowError as reason:
            if str(reason) != self._said and trainer.is_global_zero:
                log.info(f"{self.name} shows nothing: {reason}")
            self._said = str(reason)
            return
        finally:
            pl_module.network.train(training)
        if trainer.is_global_zero:
            self.log_numbers(trainer, pl_module, answer)
            if is_pictured(trainer, self.every_n_epochs):
                self.draw(trainer, pl_module, answer)
        now = time.perf_counter()
        board = writer(trainer)
        if board is not None:
            share = (now - began) / max(now - self._epoch_began, 1e-9)
            board.add_scalar(f"cost/{self.name}", share, global_step=trainer.global_step)
