"""Is an archive unpacked whole, and is one that would do harm refused before it does?"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.unpack import BLOCK, UnpackError, unpack

InChild = Callable[..., str]
MOST = 1 << 20


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive(tmp_path: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return tmp_path / "a.tar.gz"


def raw(tmp_path: Path, *blocks: bytes) -> Path:
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        for block in blocks:
            file.write(block)
    return tmp_path / "a.tar.gz"


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def refusal(
    tmp_path: Path, path: Path, match: str | None, error: type[Exception] | tuple[type[Exception], ...] = UnpackError
) -> None:
    """It is refused, for that reason, and nothing is written elsewhere."""
    inside = tmp_path / "inside" / "deep"
    inside.mkdir(parents=True)
    with pytest.raises(error, match=match):
        unpack(path, inside, MOST)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.tar.gz", "inside"]
    assert [entry.name for entry in (tmp_path / "inside").iterdir()] == ["deep"]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_files_and_folders_come_out_as_they_went_in(tmp_path: Path, form: int) -> None:
    long = "x" * 90 + "/" + "é" * 100
    path = archive(
        tmp_path, member("c", type=tarfile.DIRTYPE), member("c/a", b"first"), member("c/empty"),
        member(long, b"y" * 99), form=form,
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    unpack(path, tmp_path / "out", MOST)
    found = {str(f.relative_to(tmp_path / "out")): f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file()}
    assert found == {"c/a": b"first", "c/empty": b"", long: b"y" * 99}


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil", b"x"), member("c/../../evil", b"x"), member("/tmp/evil", b"x"),
        member("..", type=tarfile.DIRTYPE), member("c/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("l", type=tarfile.LNKTYPE, linkname="c/a"),
        member("c/pipe", type=tarfile.FIFOTYPE), member("c/zero", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        member("c/disk", type=tarfile.BLKTYPE),
    ],
)  # fmt: skip
def test_what_is_no_file_inside_is_refused(tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    refusal(
        tmp_path, archive(tmp_path, member("c/a", b"x"), bad), "lies outside the archive's own folder, or is no plain"
    )


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    info, content = member("c/a", b"x")
    info.pax_headers = {"path": "c/a\0b"}
    refusal(tmp_path, archive(tmp_path, (info, content)), "a name that no file can have")


def test_a_name_that_is_too_long_is_an_oserror(tmp_path: Path) -> None:
    refusal(tmp_path, archive(tmp_path, member("c/" + "x" * 300, b"x")), None, OSError)


def test_an_archive_that_comes_to_too_much_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path, archive(tmp_path, member("zeros", bytes(MOST + 1))), "comes to more than 1,048,576 bytes")


def test_many_small_files_count_too(tmp_path: Path) -> None:
    refusal(tmp_path, archive(tmp_path, *(member(f"c/{n}") for n in range(MOST // BLOCK + 1))), "comes to more than")


def test_a_size_below_zero_ends(tmp_path: Path) -> None:
    refusal(tmp_path, raw(tmp_path, header("c/a", -512), bytes(4096)), None, (UnpackError, OSError))


@pytest.mark.parametrize(
    "blocks",
    [
        (header("c/a", 1 << 40),),
        (header("c/a", 1 << 40, tarfile.GNUTYPE_SPARSE),),
        (header("x", 1 << 33, tarfile.XHDTYPE), *[bytes(1 << 20)] * 600),
        (header("x", 1 << 33, tarfile.GNUTYPE_LONGNAME), *[bytes(1 << 20)] * 600),
        (header("x", 3, tarfile.GNUTYPE_LONGNAME) + b"abc".ljust(512, b"\0"),) * 5000,
        (header("x", 14, tarfile.XHDTYPE) + b"14 path=c/abc\n".ljust(512, b"\0"),) * 5000,
        (header("x", 20, tarfile.XHDTYPE) + b"20 size=99999999999\n".ljust(512, b"\0"), header("c/a", 3), bytes(512)),
        (header("x", 1 << 20, tarfile.XGLTYPE) + b"9" * (1 << 20),),
        (b"\xff" * 512,),
    ],
    ids=["claim", "sparse", "header", "long name", "names of names", "headers of headers", "size", "number", "noise"],
)
def test_headers_without_end_take_neither_memory_nor_time(
    tmp_path: Path, in_child: InChild, blocks: tuple[bytes, ...]
) -> None:
    path = raw(tmp_path, *blocks)
    (tmp_path / "out").mkdir()
    said = in_child(lambda: unpack(path, tmp_path / "out", MOST), tmp_path, memory=64 << 20)
    assert said.startswith(("UnpackError", "OSError")), said
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) < 10_000


def test_damage_in_the_middle_is_an_oserror(tmp_path: Path) -> None:
    path = archive(tmp_path, *(member(f"c/{n}", os.urandom(3000)) for n in range(20)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    refusal(tmp_path, path, None, OSError)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = archive(tmp_path, *(member(f"c/{n}", b"x") for n in range(9)))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[4 * 1024] ^= 1  # the name of the fifth
    with gzip.open(path, "wb") as file:
        file.write(content)
    refusal(tmp_path, path, "a header in its middle is damaged", OSError)


def test_what_is_no_archive_is_an_oserror(tmp_path: Path, in_child: InChild) -> None:
    (tmp_path / "out").mkdir()
    path = archive(tmp_path, member("c/a", b"x"))
    path.chmod(0)
    assert in_child(lambda: unpack(Path("a.tar.gz"), Path("out"), MOST), tmp_path, locked=True).startswith("Permission")
    path.unlink()
    os.mkfifo(path)
    for other in (path, tmp_path, Path("/dev/zero"), tmp_path / "none"):
        with pytest.raises(OSError):  # noqa: PT011 - each has its own
            unpack(other, tmp_path / "out", MOST)
