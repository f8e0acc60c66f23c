"""How is an archive from somewhere unpacked? By hand: plain files and folders, below one folder, up to a size.

`tarfile` reads what a header claims into memory, follows headers of headers by recursion and packed zeros without end,
and takes a damaged header for the end of the archive; its filters against members that climb out are missing before
Python 3.11.4.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Final

from dynamo.plain_file import open_plain

BLOCK: Final = 4096
"""Bytes that the smallest file takes on a disk: an archive of ever so many empty ones is large, too."""
LARGEST_HEADER: Final = 4096
"""Bytes that are read at once for a header; that of a long name has some hundred, and long ones take long to parse."""
MAX_HEADERS: Final = 2**20
"""Bytes of all headers that are longer than the usual block of 512."""
_PIECE: Final = 2**16


class UnpackError(ValueError):
    """An archive would do harm; the message says how, the caller which archive."""


def unpack(archive: Path, folder: Path, most: int) -> None:
    """Unpack a `.tar.gz`; nothing is ever written outside `folder`.

    Args:
        archive: of plain files and folders.
        folder: where it is put, which is there and empty; whoever calls removes it after an error.
        most: bytes that it may come to, each member counted as 4,096 or more.

    Raises:
        UnpackError: a member climbs out or is a link or a device, or the archive is larger than that.
        OSError: the archive is damaged, or cannot be read; or nothing more can be written.
    """
    left = most
    try:
        with open_plain(archive) as packed, gzip.GzipFile(fileobj=packed) as content:
            stream = _Bounded(content, most)
            tar = tarfile.TarFile(fileobj=stream)
            while member := tar.next():
                left -= max(member.size, BLOCK)
                if left < 0 or member.size < 0:
                    raise UnpackError(f"it comes to more than {most:,} bytes")
                stream.copying = True
                _write(tar, member, folder)
                stream.copying = False
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            stream.check_end()
    except (tarfile.TarError, EOFError, zlib.error, RecursionError, ValueError) as error:
        if isinstance(error, UnpackError):
            raise
        raise OSError(str(error) or type(error).__name__) from error


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one plain file or folder."""
    if "\0" in member.name:
        raise UnpackError(f"its member {member.name[:80]!r} has a name that no file can have")
    target = (folder / member.name).resolve()
    content = tar.extractfile(member) if member.isfile() else None
    if not target.is_relative_to(folder.resolve()) or not (content or member.isdir()):
        raise UnpackError(f"its member {member.name[:80]!r} lies outside the archive's own folder, or is no plain file")
    (target.parent if content else target).mkdir(parents=True, exist_ok=True)
    if content:
        with content, target.open("wb") as file:
            shutil.copyfileobj(content, file, _PIECE)


class _Bounded(io.RawIOBase):
    """A stream that is not read beyond a place, nor in pieces that could fill the memory.

    Args:
        stream: the unpacked content.
        most: how far it is read at most; headers, and what fills up a block, come beside what they announce.

    Attributes:
        copying: whether the content of a member is read, and not a header.
    """

    def __init__(self, stream: gzip.GzipFile, most: int) -> None:
        super().__init__()
        self.copying = False
        self._stream, self._end = stream, 2 * most + _PIECE
        self._headers, self._last = MAX_HEADERS, b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if not self.copying and size > tarfile.BLOCKSIZE:
            self._headers -= size
        too_large = size > (_PIECE if self.copying else LARGEST_HEADER) or self._headers < 0
        if size < 0 or too_large or self._stream.tell() + size > self._end:
            raise UnpackError("it has a header without end, or more content than it may have")
        self._last = self._stream.read(size)
        return self._last

    def check_end(self) -> None:
        """Refuse an archive whose last header is not the empty one, or after which there is more.

        It is read to its end, where gzip compares a checksum.
        """
        sound = len(self._last) in (0, tarfile.BLOCKSIZE) and not any(self._last)
        while piece := self._stream.read(_PIECE):
            sound = sound and not any(piece) and self._stream.tell() <= self._end
            if not sound:
                break
        if not sound:
            raise tarfile.ReadError("a header in its middle is damaged")

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        if whence != 0 or not 0 <= offset <= self._end:
            raise UnpackError("it refers to a place beyond its end")
        return self._stream.seek(offset)

    def tell(self) -> int:
        """The place."""
        return self._stream.tell()
