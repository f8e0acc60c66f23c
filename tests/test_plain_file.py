"""Is an ordinary file read whole, and is everything else refused without waiting for it?"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamo.plain_file import PlainFileError, open_plain, read_plain

InChild = Callable[..., str]


def test_a_file_is_read_whole_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_plain(tmp_path / "file", 7) == read_plain(tmp_path / "link", 7) == b"content"
    with open_plain(tmp_path / "file") as file:
        assert os.get_blocking(file.fileno()) in (True, False)
        assert file.read() == b"content"
    (tmp_path / "empty").touch()
    assert read_plain(tmp_path / "empty", 0) == b""


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)  # takes no place on the disk
    with pytest.raises(PlainFileError, match="more than 1,000 bytes"):
        read_plain(tmp_path / "large", 1000)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        before = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        bound.bind("socket")
        os.chdir(before)
    kinds = {"pipe": "a pipe", "link": "a pipe", "socket": "a socket", ".": "a folder", "/dev/zero": "a device"}
    for name, kind in kinds.items():
        with pytest.raises(PlainFileError, match=f"it is {kind}, not an ordinary file"):
            read_plain(tmp_path / name, 10)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000, "file/inside", "loop", "none"])
def test_an_impossible_path_is_an_oserror(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError):  # noqa: PT011 - each has its own
        read_plain(tmp_path / name, 10)


def test_without_permission_it_is_said(tmp_path: Path, in_child: InChild) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0)
    assert in_child(lambda: read_plain(Path("file"), 10), tmp_path, locked=True).startswith("PermissionError")
