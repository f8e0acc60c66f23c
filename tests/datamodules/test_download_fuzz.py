"""Whatever happens to an archive: it is unpacked as it was packed, or refused, and nothing lies elsewhere."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from datamodules.download import DataError, extract

BrokenCopies = Callable[[bytes, int], Iterator[bytes]]
CONTENT = {f"c/{split}/{n}.txt": random.Random(n).randbytes(100 * n) for split in ("train", "test") for n in range(2)}
MOST = 1 << 20


@pytest.fixture(scope="module", params=[tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def plain(request: pytest.FixtureRequest) -> bytes:
    """A small archive, not yet packed; one name needs a header of its own."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:", format=request.param) as tar:
        for name, content in {**CONTENT, "c/" + "n" * 120: b"long"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return memory.getvalue()


def tried(root: Path, copies: Iterable[bytes]) -> tuple[int, list[dict[str, bytes]]]:
    """How many were refused, and what came out of the others."""
    inside = root / "a" / "root"
    inside.mkdir(parents=True)
    refused, read = 0, []
    for copy in copies:
        (inside / "c.tar.gz").write_bytes(copy)
        try:
            out = extract(inside / "c.tar.gz", "c", inside, MOST)
        except DataError:
            refused += 1
        else:
            read.append({str(f.relative_to(inside)): f.read_bytes() for f in out.rglob("*") if f.is_file()})
            out.rename(root / "old")
            for folder, folders, files in os.walk(root / "old", topdown=False):
                for name in files:
                    os.unlink(os.path.join(folder, name))  # noqa: PTH108, PTH118
                for name in folders:
                    os.rmdir(os.path.join(folder, name))  # noqa: PTH106, PTH118
            (root / "old").rmdir()
        assert [*os.listdir(root), *os.listdir(root / "a"), *os.listdir(inside)] == ["a", "root", "c.tar.gz"]  # noqa: PTH208
    return refused, read


def test_a_broken_archive(plain: bytes, tmp_path: Path, broken_copies: BrokenCopies) -> None:
    refused, read = tried(tmp_path, broken_copies(gzip.compress(plain, mtime=0), 700))
    assert all(content.items() >= CONTENT.items() for content in read)  # gzip has a checksum of its own
    assert refused > 500


def test_a_broken_archive_in_a_sound_wrapping(plain: bytes, tmp_path: Path, broken_copies: BrokenCopies) -> None:
    """`tar` has checksums of its headers alone: what comes out may be other content, and lies inside in any case."""
    refused, read = tried(tmp_path, (gzip.compress(copy, 1, mtime=0) for copy in broken_copies(plain, 700)))
    assert refused + len(read) == 700
    assert refused > 50
