"""The projector tab lists the embeddings of all processes that wrote into a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from google.protobuf import text_format
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch.utils.tensorboard import SummaryWriter

from callbacks import EmbeddingPCA
from callbacks.projector import SPRITE, list_embeddings
from datamodules import SyntheticSentimentDataModule
from dynamo.figures.group_sprite import CELL, save_group_sprite
from dynamo.meta import MetaTask


def listed(folder: Path) -> ProjectorConfig:
    """What TensorBoard reads."""
    return text_format.Parse((folder / "projector_config.pbtxt").read_text(encoding="utf-8"), ProjectorConfig())


def write(folder: Path, step: int, tag: str, labels: bool = True, sprite: bool = False) -> None:
    """Add an embedding as a process of its own would."""
    board = SummaryWriter(str(folder))
    board.add_embedding(torch.randn(3, 2), metadata=["a", "b", "c"] if labels else None, global_step=step, tag=tag)
    board.close()
    if sprite:
        save_group_sprite(["a", "b", "a"], folder / f"{step:05d}/{tag}/{SPRITE}")


def test_one_embedding_is_listed_as_torch_lists_it(tmp_path: Path) -> None:
    for step, tag, labels in ((7, "theta", True), (123456, "a/b \u00fc", False)):
        folder = tmp_path / str(step)
        write(folder, step, tag, labels)
        theirs = listed(folder)
        list_embeddings(folder)
        assert listed(folder) == theirs


def test_those_of_two_processes_are_listed_in_order(tmp_path: Path) -> None:
    write(tmp_path, 100000, "theta")
    write(tmp_path, 20000, "theta")
    assert len(listed(tmp_path).embeddings) == 1  # the reason for all this
    (tmp_path / "snapshots/theta").mkdir(parents=True)
    (tmp_path / "snapshots/theta/tensors.tsv").touch()
    list_embeddings(tmp_path)
    assert [entry.tensor_name for entry in listed(tmp_path).embeddings] == ["theta:20000", "theta:100000"]
    for entry in listed(tmp_path).embeddings:
        assert (tmp_path / entry.tensor_path).is_file()
        assert (tmp_path / entry.metadata_path).is_file()
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_newest_comes_first_with_the_markers_of_its_groups(tmp_path: Path) -> None:
    for step in (100000, 20000):
        write(tmp_path, step, "theta", sprite=True)
    list_embeddings(tmp_path)
    first, *others = listed(tmp_path).embeddings
    assert first.tensor_name == "theta"
    assert first.tensor_path == "100000/theta/tensors.tsv"
    assert (tmp_path / first.sprite.image_path).is_file()
    assert list(first.sprite.single_image_dim) == [CELL, CELL]
    assert [entry.tensor_name for entry in others] == ["theta:20000", "theta:100000"]
    assert not any(entry.HasField("sprite") for entry in others)  # "Color by" would colour the markers once more


def test_without_embeddings_the_list_is_empty(tmp_path: Path) -> None:
    list_embeddings(tmp_path)
    assert list(listed(tmp_path).embeddings) == []


def test_a_run_that_goes_on_keeps_its_embeddings(
    task: MetaTask, data: SyntheticSentimentDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.embedding_pca.show", lambda *_: None)  # pictures take time
    for epochs in (2, 3):
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            limit_train_batches=1,
            limit_val_batches=0,
            log_every_n_steps=1,
            default_root_dir=tmp_path,
            logger=TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False),
            callbacks=[EmbeddingPCA()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        before = tmp_path / "before.ckpt"
        trainer.fit(task, datamodule=data, ckpt_path=before if before.exists() else None, weights_only=True)
        trainer.save_checkpoint(before)
    assert [entry.tensor_name for entry in listed(tmp_path).embeddings] == ["theta", "theta:00002", "theta:00003"]
