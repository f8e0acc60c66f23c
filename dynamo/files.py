"""How does a file come to the disk whole or not at all, and a folder to one process at a time?"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dynamo.types import UserError

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when nothing more can be written: the disk, the quota, or the largest file."""
PART: Final = ".tmp"
"""What the name of a file ends in while it is being written."""


class DiskFullError(UserError):
    """A file could not be written for want of space; what stood in its place before is untouched."""


def disk_full(error: BaseException | None) -> OSError | None:
    """The error that says that there is no space left, if it is this one or stands behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Under which name is `path` written until it is whole?

    What the caller writes there is flushed to the disk and renamed, and so is the folder's list of names: after a
    kill or a power failure at any moment, `path` is what it was before, or the new file.

    Yields:
        The file to write, beside `path`.

    Raises:
        DiskFullError: there is no space left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    try:
        yield part
        flush(part)
        part.replace(path)
        flush(path.parent)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if full := disk_full(error):
            kept = f"the {path.name} of before is whole" if path.exists() else "nothing was left half-written"
            raise DiskFullError(
                f"{path} could not be written: {full.strerror}. Free some space on its disk and go on; {kept}."
            ) from error
        raise


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Under which name is a folder of files filled until it is whole? As `written_whole`; it may not be there yet.

    Yields:
        An empty folder beside it.

    Raises:
        DiskFullError: there is no space left.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp makes folders that only their owner may read
        for written in (*part.iterdir(), part):
            flush(written)
        part.rename(folder)
        flush(folder.parent)
    except BaseException as error:
        if full := disk_full(error):
            raise DiskFullError(f"{folder} could not be written: {full.strerror}. Free some space.") from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Claim:
    """Is this process the only one that writes here? A lock on a file; the system lets go of it when a process dies.

    Args:
        path: the file that stands for what is claimed; made if need be.
        what: what is claimed, for the message.
        patience: how many seconds to wait for another process that has it, as one that is about to end.

    Raises:
        UserError: another process has it.
    """

    def __init__(self, path: Path, what: str, patience: float = 5.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+", encoding="utf-8")
        end = time.monotonic() + patience
        while not self._locked():
            if time.monotonic() > end:
                self._file.seek(0)
                holder = self._file.read(40).strip() or "unknown"
                self._file.close()
                raise UserError(f"{what} is being written by another process ({holder}); wait for it, or end it.")
            time.sleep(0.1)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others have it."""
        self._file.close()

    def _locked(self) -> bool:
        """Try to lock the file; true on a file system without locks too, where nobody can be kept out."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True
