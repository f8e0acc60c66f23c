"""Is a zip archive whole whose parts lie in it uncompressed, and what do they hold?

Python's own reader makes an object of every entry of a table of contents, however long, and compares a checksum only
where a part is read to its end, at a third of the speed.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from io import BufferedReader
from typing import Final

MAX_DIRECTORY: Final = 4 * 2**20
"""Bytes of an archive's table of contents; some 60,000 parts fit in."""
_END, _END64 = 22, 22 + 20 + 56
_BLOCK: Final = 2**20


class StoredZipError(ValueError):
    """The archive is damaged, or not of uncompressed parts; the message says why, the caller which file."""


class StoredZip:
    """What lies in the archive? Parts by their names below the one folder that all of them share.

    Args:
        file: the archive, which stays open while parts are read.

    Attributes:
        sizes: name -> bytes; together no more than the file has.

    Raises:
        StoredZipError: it is no whole archive.
    """

    def __init__(self, file: BufferedReader) -> None:
        end = os.fstat(file.fileno()).st_size
        _check_directory(file, end)
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise StoredZipError(str(error)) from error
        self._file = file
        self._infos = {info.filename.partition("/")[2]: info for info in infos}
        self.sizes = {name: info.file_size for name, info in self._infos.items()}
        if len(self._infos) < len(infos):
            raise StoredZipError("two of its parts have one name")
        if any(i.compress_type != zipfile.ZIP_STORED or i.compress_size != i.file_size for i in infos):
            raise StoredZipError("its parts are compressed")
        if any(info.flag_bits & 0x61 for info in infos):
            raise StoredZipError("its parts are encrypted or patched")
        if sum(self.sizes.values()) > end:
            raise StoredZipError("its parts are larger than itself")

    def read(self, name: str, most: int) -> bytes:
        """A small part.

        Args:
            name: of the part.
            most: bytes that it may have.

        Raises:
            StoredZipError: it is missing, larger, or damaged.
        """
        size = self.sizes.get(name)
        if size is None:
            raise StoredZipError(f"its part {name!r} is missing")
        if size > most:
            raise StoredZipError(f"its part {name!r} has more than {most:,} bytes")
        content = bytearray(size)
        self.fill(memoryview(content), name)
        return bytes(content)

    def fill(self, room: memoryview, name: str) -> None:
        """Read a part into a place of its size.

        Raises:
            StoredZipError: it is damaged.
        """
        info = self._infos[name]
        self._file.seek(info.header_offset)
        head = self._file.read(30)
        if len(head) < 30 or not head.startswith(b"PK\3\4"):
            raise StoredZipError(f"its part {name[:80]!r} is not where it should be")
        self._file.seek(sum(struct.unpack("<HH", head[26:])), 1)
        checksum = 0
        for place in range(0, len(room), _BLOCK):
            block = room[place : place + _BLOCK]
            if self._file.readinto(block) != len(block):
                raise StoredZipError(f"its part {name[:80]!r} is cut off")
            checksum = zlib.crc32(block, checksum)
        if checksum != info.CRC:
            raise StoredZipError(f"the checksum of its part {name[:80]!r} differs")


def _check_directory(file: BufferedReader, end: int) -> None:
    """Refuse an archive whose table of contents is not the last thing in it, or too long to be read in one go."""
    file.seek(max(0, end - _END64))
    tail = file.read(_END64)
    if tail[-_END : -_END + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise StoredZipError("it does not end as it should")
    size, offset = struct.unpack("<LL", tail[-10:-2])
    start = end - _END
    if tail[-_END - 20 :].startswith(b"PK\6\7"):
        if len(tail) < _END64 or not tail.startswith(b"PK\6\6"):
            raise StoredZipError("it does not end as it should")
        size, offset = struct.unpack("<QQ", tail[40:56])
        start = end - _END64
    if size > MAX_DIRECTORY or offset + size != start:
        raise StoredZipError("its table of contents is not where it should be")
