"""Are archives found, checked and unpacked inside their folder, and do errors name file and remedy?"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from datamodules.download import (
    DataError,
    check_md5,
    download,
    extract,
    fetch_archive,
    file_md5,
    resolve_root,
)

MOST = 1 << 20


def archive(path: Path, members: dict[str, str], link: tuple[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return path


def test_the_root_is_the_argument_else_the_variable_else_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMO_DATA", "/some/data")
    assert resolve_root("/mine") == Path("/mine")
    assert resolve_root(None) == Path("/some/data")
    monkeypatch.delenv("DYNAMO_DATA")
    assert resolve_root(None) == Path("~/.cache/dynamo").expanduser()


def test_a_download_is_checked_and_appears_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("content")
    target = tmp_path / "root" / "file"
    download(source.as_uri(), target, file_md5(source))
    assert target.read_text() == "content"
    source.write_text("other")
    download(source.as_uri(), target, "not looked at: the file is there")
    assert target.read_text() == "content"


def test_a_download_with_another_checksum_is_thrown_away(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("content")
    with pytest.raises(DataError, match=r"came with MD5 .* expected abc"):
        download(source.as_uri(), tmp_path / "root" / "file", "abc")
    assert list((tmp_path / "root").iterdir()) == []


def test_without_a_connection_the_error_says_where_to_put_the_file(tmp_path: Path) -> None:
    url = (tmp_path / "nowhere.tar.gz").as_uri()
    with pytest.raises(DataError, match=rf"cannot download {url} .* put it into {tmp_path}/root as file.tgz"):
        download(url, tmp_path / "root" / "file.tgz", "abc")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_root_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(DataError, match="choose another root, or put the file there"):
        download("http://example.org/x", tmp_path / "root" / "x", "abc")


def test_a_checksum_that_differs_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("content")
    check_md5(path, file_md5(path))
    with pytest.raises(DataError, match=r"x has MD5 .*, expected abc.*Delete it"):
        check_md5(path, "abc")


def test_an_archive_placed_by_hand_is_checked_and_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "corpus.tar.gz", {"corpus/train/a.txt": "hello"})
    url, md5 = "http://example.org/corpus.tar.gz", file_md5(path)
    folder = fetch_archive(tmp_path, "corpus", url, md5, MOST)
    assert (folder / "train" / "a.txt").read_text() == "hello"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["corpus", "corpus.tar.gz"]
    path.write_bytes(b"no longer looked at")
    assert fetch_archive(tmp_path, "corpus", url, md5, MOST) == folder


def test_a_truncated_archive_is_refused_by_its_checksum(tmp_path: Path) -> None:
    path = archive(tmp_path / "corpus.tar.gz", {"corpus/a.txt": "hello" * 1000})
    md5 = file_md5(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"corpus.tar.gz has MD5 .* incomplete"):
        fetch_archive(tmp_path, "corpus", "http://example.org/corpus.tar.gz", md5, MOST)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_truncated_archive_is_refused_when_unpacked(tmp_path: Path, keep: int) -> None:
    path = archive(tmp_path / "corpus.tar.gz", {f"corpus/{i}.txt": f"text {i}" * 99 for i in range(20)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"(?s)corpus.tar.gz cannot be unpacked .*Delete it"):
        extract(path, "corpus", tmp_path, MOST)
    assert [entry.name for entry in tmp_path.iterdir()] == ["corpus.tar.gz"]


@pytest.mark.parametrize("name", ["../evil.txt", "corpus/../../evil.txt"])
def test_a_member_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    path = archive(root / "corpus.tar.gz", {"corpus/a.txt": "x", name: "evil"})
    with pytest.raises(DataError, match=r"corpus.tar.gz was refused: .*outside"):
        extract(path, "corpus", root, MOST)
    assert [entry.name for entry in root.iterdir()] == ["corpus.tar.gz"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["root"]


def test_a_link_that_points_out_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "corpus.tar.gz", {"corpus/a.txt": "x"}, link=("corpus/b", "../../etc/passwd"))
    with pytest.raises(DataError, match="was refused"):
        extract(path, "corpus", tmp_path, MOST)


def test_another_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "corpus.tar.gz", {"other/a.txt": "x"})
    with pytest.raises(DataError, match="holds no folder 'corpus'"):
        extract(path, "corpus", tmp_path, MOST)
