"""Are the parts of an archive of uncompressed parts read, and is any other archive refused?"""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamo.stored_zip import MAX_DIRECTORY, StoredZip, StoredZipError

PARTS = {"a": b"first", "deep/b": random.Random(0).randbytes(3_000_000), "empty": b""}


def archive(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as file:
        for name, content in parts.items():
            file.writestr(f"top/{name}", content)
    return memory.getvalue()


def read(tmp_path: Path, content: bytes) -> dict[str, bytes]:
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        found = StoredZip(file)
        return {name: found.read(name, 10**7) for name in found.sizes}


def test_parts_are_read_whole(tmp_path: Path) -> None:
    assert read(tmp_path, archive(PARTS)) == PARTS


def change(place: int, new: bytes) -> Callable[[bytes], bytes]:
    """Overwrite some bytes, counted from the end."""
    return lambda content: content[:place] + new + content[place + len(new) or len(content) :]


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (lambda content: content[:-1], "does not end as it should"),
        (lambda content: content + b"\0", "does not end as it should"),
        (lambda content: b"", "does not end as it should"),
        (lambda content: b"x" + content, "table of contents is not where"),
        (change(-6, struct.pack("<L", 0xFFFFFFFF)), "table of contents is not where"),
        (change(-10, struct.pack("<L", 0xFFFFFFFF)), "table of contents is not where"),
        (lambda content: content.replace(b"first", b"First", 1), "checksum of its part 'a' differs"),
        (lambda content: b"XX" + content[2:], "part 'a' is not where it should be"),
    ],
)  # fmt: skip
def test_damage_is_found(tmp_path: Path, broken: Callable[[bytes], bytes], match: str) -> None:
    with pytest.raises(StoredZipError, match=match):
        read(tmp_path, broken(archive({"a": b"first"})))


def test_what_is_compressed_or_encrypted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoredZipError, match="compressed"):
        read(tmp_path, archive({"bomb": bytes(10**6)}, zipfile.ZIP_DEFLATED))
    content = bytearray(archive({"a": b"first"}))
    content[content.rindex(b"PK\1\2") + 8] |= 1
    with pytest.raises(StoredZipError, match="encrypted"):
        read(tmp_path, bytes(content))


def test_parts_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    """A table that names one megabyte a hundred times, each under a name of its own."""
    content = archive({f"{n:02}": bytes(10**6 if n == 0 else 0) for n in range(100)})
    place = content.index(b"PK\1\2")
    head, table, end = content[:place], content[place:-22], content[-22:]
    length = len(table) // 100
    first = table[:length]
    lies = b"".join(first.replace(b"top/00", b"top/%02d" % n) for n in range(100))
    with pytest.raises(StoredZipError, match="larger than itself"):
        read(tmp_path, head + lies + end)
    with pytest.raises(StoredZipError, match="two of its parts have one name"):
        read(tmp_path, head + first * 100 + end)


def test_a_table_without_end_is_not_read(tmp_path: Path) -> None:
    table = bytes(MAX_DIRECTORY + 1)
    with pytest.raises(StoredZipError, match="table of contents"):
        read(tmp_path, table + struct.pack("<4s4HLLH", b"PK\5\6", 0, 0, 0, 0, len(table), 0, 0))


def test_a_part_that_is_missing_or_too_large_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(archive(PARTS))
    with (tmp_path / "file").open("rb") as file:
        found = StoredZip(file)
        with pytest.raises(StoredZipError, match="part 'c' is missing"):
            found.read("c", 10)
        with pytest.raises(StoredZipError, match="part 'a' has more than 4 bytes"):
            found.read("a", 4)
