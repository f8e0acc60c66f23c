"""Is a path an ordinary file of a sensible size? Asked before anything of it is read.

A pipe makes a reader wait for ever, a device such as /dev/zero never ends, and neither has a size to go by.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class PlainFileError(OSError):
    """The path is no ordinary file, or one that is too large; the message says which, the caller what to do."""


def open_plain(path: Path) -> BufferedReader:
    """An ordinary file, opened to be read; a link to one will do.

    Raises:
        PlainFileError: it is a folder, a pipe, a socket or a device.
        OSError: it is not there or cannot be read, as where its name is impossible.
    """
    try:
        _check(path.stat().st_mode)  # before it is opened: that alone can move a device
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL in the name, or half a character
        raise PlainFileError(f"no file can have this name: {error}") from error
    try:
        _check(os.fstat(handle).st_mode)  # again: it may have been replaced meanwhile
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_plain(path: Path, most: int) -> bytes:
    """All of an ordinary file.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        PlainFileError: it is larger than that, or no ordinary file.
        OSError: it is not there or cannot be read.
    """
    with open_plain(path) as file:
        # The size comes first, as `read` would make room for all that is allowed; what grows meanwhile is cut off.
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(size + 1)
    if size > most or len(content) > most:
        raise PlainFileError(f"it has more than {most:,} bytes")
    return content


def _check(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise PlainFileError(f"it is {kind}, not an ordinary file")
