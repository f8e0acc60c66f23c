"""A write that is cut short leaves the checkpoint before it whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from dynamo.checkpointing import AtomicCheckpointIO


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 3, "w": torch.arange(4)}, path)
    found = torch.load(path, weights_only=True)
    assert found["step"] == 3
    assert found["w"].tolist() == [0, 1, 2, 3]
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_kill_during_the_write_leaves_the_older_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, writer = tmp_path / "last.ckpt", AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1}, path)

    def half(content: dict[str, Any], file: BinaryIO) -> None:
        file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            writer.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    writer.save_checkpoint({"step": 3}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_content_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr("os.fsync", lambda number: order.append("flushed"))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("renamed"), replace(self, to))[1])
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert order == ["flushed", "renamed", "flushed"]  # the file, then the folder's list of names
