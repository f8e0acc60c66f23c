"""A file is the old one or the new one, and a folder is one process's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynamo.files import Claim, DiskFullError, disk_full, folder_written_whole, write_text, written_whole
from dynamo.types import UserError

FULL = Path("/dev/full")  # the device on which nothing has room


def test_what_is_written_replaces_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "deep/a.txt", "one")
    write_text(tmp_path / "deep/a.txt", "two")
    assert [(file.name, file.read_text()) for file in (tmp_path / "deep").iterdir()] == [("a.txt", "two")]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")

    def fail_half_way() -> None:
        with written_whole(tmp_path / "a.txt") as part:
            part.write_text("tw")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "one")]


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_whoever_writes(tmp_path: Path) -> None:
    """`torch.save` hides the system's error behind its own."""
    (tmp_path / "last.ckpt").write_text("before")
    for write in (lambda file: torch.save(torch.zeros(100_000), file), lambda file: file.write(b"0" * 100_000)):
        (tmp_path / "last.ckpt.tmp").symlink_to(FULL)
        with (
            pytest.raises(DiskFullError, match=r"last.ckpt could not be written: No space left.*of before is whole"),
            written_whole(tmp_path / "last.ckpt") as part,
            part.open("wb") as file,
        ):
            write(file)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("last.ckpt", "before")]


def test_a_full_disk_is_found_behind_other_errors() -> None:
    full = OSError(28, "No space left on device")
    other = RuntimeError("unexpected pos")
    other.__cause__ = full
    outer = ValueError("worse")
    outer.__context__ = other
    assert disk_full(full) is disk_full(outer) is full
    assert disk_full(OSError(2, "No such file")) is disk_full(None) is None
    full.__context__ = outer  # a ring of errors ends too
    assert disk_full(RuntimeError()) is None


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with folder_written_whole(tmp_path / "a/b") as part:
            (part / "half").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert list((tmp_path / "a").iterdir()) == []
    with folder_written_whole(tmp_path / "a/b") as part:
        (part / "whole").write_text("1")
        assert not (tmp_path / "a/b").exists()
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path("a"), Path("a/b"), Path("a/b/whole")]
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o755


def test_a_claim_keeps_others_out_until_it_is_released_or_its_holder_dies(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from dynamo.files import Claim\n"
        "claim = Claim(Path(sys.argv[1]), 'it'); print('has it', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "lock")]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ})
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"has it\n"
    with pytest.raises(UserError, match=rf"The run x is being written by another process \(process {holder.pid}\)"):
        Claim(tmp_path / "lock", "The run x", patience=0.2)
    holder.kill()
    holder.communicate()
    claim = Claim(tmp_path / "lock", "The run x", patience=0.2)
    claim.release()
    Claim(tmp_path / "lock", "The run x", patience=0.2).release()
