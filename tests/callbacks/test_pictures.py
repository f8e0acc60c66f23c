"""A run of any length shows few pictures, its last epoch among them, and the same ones if it was interrupted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import EmbeddingPCA
from callbacks.base import MapCallback, show
from callbacks.pictures import MOST_PICTURES, among_pictured
from datamodules import SyntheticSentimentDataModule
from dynamo.figures.style import new_figure
from dynamo.meta import MetaTask


class Drawing(MapCallback):
    """A number and a tiny picture."""

    name: ClassVar[str] = "drawing"

    def compute(self, trainer: Trainer, task: MetaTask) -> int:
        return trainer.current_epoch + 1

    def draw(self, trainer: Trainer, task: MetaTask, answer: int) -> None:
        show(trainer, "drawing", Figure((0.1, 0.1)))


class PowerCut(Callback):
    """Stops a run in the middle of an epoch; the checkpoint is that of the epoch before."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 == self.epoch:
            raise RuntimeError("power cut")
        trainer.save_checkpoint(trainer.default_root_dir + "/last.ckpt")


class EarlyStop(Callback):
    """Asks the run to stop in an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:  # noqa: ANN401
        trainer.should_stop = trainer.current_epoch + 1 == self.epoch


def train(
    task: MetaTask,
    data: SyntheticSentimentDataModule,
    run: Path,
    *watching: Callback,
    resumed: bool = False,
    **options: Any,  # noqa: ANN401
) -> None:
    """One batch an epoch, and no validation."""
    trainer = Trainer(
        accelerator="cpu",
        limit_val_batches=0,
        log_every_n_steps=1,
        default_root_dir=run,
        logger=TensorBoardLogger(run, name="", version="", default_hp_metric=False),
        callbacks=list(watching),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"limit_train_batches": 1, **options},
    )
    trainer.fit(task, datamodule=data, ckpt_path=run / "last.ckpt" if resumed else None, weights_only=True)


def shown(run: Path) -> tuple[dict[str, list[int]], Counter[str]]:
    """The steps of every picture, and how many numbers there are, by tag."""
    events = EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    images = {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]}
    return images, Counter({tag: len(events.Scalars(tag)) for tag in events.Tags()["scalars"]})


@pytest.mark.parametrize("of", [1, 2, 99, 100, 101, 150, 199, 200, 201, 1000, 12345])
def test_at_most_a_hundred_spread_evenly_and_the_last(of: int) -> None:
    chosen = [number for number in range(1, of + 1) if among_pictured(number, of)]
    gaps = {after - before for before, after in zip([0, *chosen], chosen, strict=False)}
    assert len(chosen) == min(of, MOST_PICTURES)
    assert chosen[-1] == of
    assert max(gaps) - min(gaps) <= 1


def test_a_run_of_unknown_length_has_fifty_more_for_each_doubling() -> None:
    chosen = [number for number in range(1, 3201) if among_pictured(number, None)]
    assert chosen[:101] == [*range(1, 101), 102]
    until = [sum(number <= end for number in chosen) for end in (100, 200, 400, 800, 1600, 3200)]
    assert until == [100, 150, 200, 250, 300, 350]


def test_a_long_run_has_a_hundred_pictures_and_all_numbers(
    task: MetaTask, data: SyntheticSentimentDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.embedding_pca.embedding_plane", lambda **_: Figure((0.1, 0.1)))
    train(task, data, tmp_path, Drawing(), EmbeddingPCA(projector_every_n_epochs=1), max_epochs=110)
    pictures, numbers = shown(tmp_path)
    assert set(pictures) == {"drawing", "map/1_plane"}
    for steps in pictures.values():
        assert len(steps) == len(set(steps)) == MOST_PICTURES
        assert steps[-1] == 110
    assert numbers["cost/drawing"] == numbers["map/dims_95"] == 110
    assert len(list(tmp_path.glob("*/theta"))) == MOST_PICTURES


@pytest.mark.parametrize(
    ("every", "options", "steps"),
    [
        (1, {"max_epochs": 7}, [3, 5, 7]),
        (2, {"max_epochs": 12}, [4, 8, 12]),
        (3, {"max_epochs": 11}, [6, 9, 11]),
        (5, {"max_epochs": 7}, [5, 7]),
        (1, {"max_epochs": -1, "max_steps": 7}, [3, 5, 7]),
        (1, {"max_epochs": 50, "max_steps": 7}, [3, 5, 7]),
        (1, {"max_epochs": 7, "max_steps": 50}, [3, 5, 7]),
        (1, {"max_epochs": -1, "max_steps": 9, "limit_train_batches": 2}, [4, 8, 9]),
        (1, {"max_epochs": -1, "max_steps": 9, "limit_train_batches": 3, "accumulate_grad_batches": 2}, [4, 8, 9]),
    ],
)
def test_the_last_epoch_is_known_beforehand(
    task: MetaTask,
    data: SyntheticSentimentDataModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
    options: dict[str, int],
    steps: list[int],
) -> None:
    monkeypatch.setattr("callbacks.pictures.MOST_PICTURES", 3)
    train(task, data, tmp_path, Drawing(every), **options)
    assert shown(tmp_path)[0]["drawing"] == steps


@pytest.mark.parametrize("cut", [2, 4, 6])
def test_interrupted_and_resumed_shows_the_same_pictures(
    task: MetaTask, data: SyntheticSentimentDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr("callbacks.pictures.MOST_PICTURES", 4)
    with pytest.raises(RuntimeError, match="power cut"):
        train(task, data, tmp_path, Drawing(), PowerCut(cut), max_epochs=7)
    train(task, data, tmp_path, Drawing(), max_epochs=7, resumed=True)
    assert shown(tmp_path)[0]["drawing"] == [2, 4, 6, 7]


def test_what_was_shown_holds_no_memory(
    task: MetaTask, data: SyntheticSentimentDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []

    class Keeping(Drawing):
        def draw(self, trainer: Trainer, task: MetaTask, answer: int) -> None:
            figure = new_figure(0.5, 0.5)
            figure.subplots()
            show(trainer, "keeping", figure)
            figures.append(figure)

    train(task, data, tmp_path, Keeping(), max_epochs=1)
    assert [figure.axes for figure in figures] == [[]]
    assert (tmp_path / "figures/keeping.png").stat().st_size > 500  # it had axes when it was written


def test_a_run_that_is_asked_to_stop_shows_where_it_ended(
    task: MetaTask, data: SyntheticSentimentDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.pictures.MOST_PICTURES", 3)
    train(task, data, tmp_path, Drawing(4), EarlyStop(6), max_epochs=30)
    assert shown(tmp_path)[0]["drawing"] == [6]
