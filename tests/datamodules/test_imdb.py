"""Are film reviews read in a fixed order, and is everything that can be wrong with the folder named?"""

from __future__ import annotations

import io
import os
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules import DataError, IMDBDataModule, imdb
from datamodules.download import file_md5


def module(root: Path) -> IMDBDataModule:
    return IMDBDataModule(root=str(root), vocab_size=50)


def test_reviews_come_class_by_class_in_the_order_of_their_names(imdb_root: Path) -> None:
    found = module(imdb_root).read("test")
    assert found.labels == [0] * 6 + [1] * 6
    assert found.texts[1] == (imdb_root / "aclImdb/test/neg/1_7.txt").read_text()
    assert found.texts[6] == (imdb_root / "aclImdb/test/pos/0_7.txt").read_text()


def test_other_files_in_the_folder_are_not_read(imdb_root: Path) -> None:
    before = module(imdb_root).identity()
    (imdb_root / "aclImdb/train/pos/.DS_Store").write_bytes(b"\xff")
    assert module(imdb_root).identity() == before
    assert len(module(imdb_root).read("train").texts) == 40


def test_the_identity_follows_names_and_sizes(imdb_root: Path) -> None:
    before = module(imdb_root).identity()
    (imdb_root / "aclImdb/train/pos/0_7.txt").write_text("longer than it was before, by far")
    assert module(imdb_root).identity() != before


def test_a_missing_class_folder_is_named(imdb_root: Path) -> None:
    (imdb_root / "aclImdb/test/neg").rename(imdb_root / "elsewhere")
    with pytest.raises(DataError, match=r"aclImdb/test/neg is missing. Delete .*aclImdb to extract it anew"):
        module(imdb_root).prepare_data()


def test_an_empty_class_folder_is_named(imdb_root: Path) -> None:
    for path in (imdb_root / "aclImdb/train/pos").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"aclImdb/train/pos holds no .txt file"):
        module(imdb_root).prepare_data()


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"", "3_7.txt is empty"), (b" \n", "3_7.txt is empty"), (b"caf\xe9", "3_7.txt is no UTF-8 text")],
)
def test_a_review_that_cannot_be_read_is_named(imdb_root: Path, content: bytes, match: str) -> None:
    (imdb_root / "aclImdb/train/pos/3_7.txt").write_bytes(content)
    with pytest.raises(DataError, match=match):
        module(imdb_root).prepare_data()


def test_an_archive_placed_by_hand_is_unpacked(imdb_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = imdb_root / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(imdb_root / "aclImdb", "aclImdb")
    expected = module(imdb_root).read("train")
    (imdb_root / "aclImdb").rename(imdb_root / "before")
    monkeypatch.setattr(imdb, "MD5", file_md5(archive))
    module(imdb_root).prepare_data()
    assert module(imdb_root).read("train") == expected


def test_offline_the_error_names_url_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> io.BytesIO:
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError, match=rf"{imdb.URL} .*no route.* into {tmp_path} as aclImdb_v1.tar.gz"):
        module(tmp_path).prepare_data()


def test_the_real_data_is_complete(real_data: Path) -> None:
    if not (real_data / "aclImdb").is_dir():
        pytest.skip(f"{real_data / 'aclImdb'} is absent")
    found = IMDBDataModule(root=str(real_data)).read("test")
    assert len(found.texts) == 25_000
    assert sum(found.labels) == 12_500


def test_what_is_no_file_is_refused_without_waiting(imdb_root: Path, in_child: Callable[..., str]) -> None:
    path = imdb_root / "aclImdb/train/pos/3_7.txt"
    path.chmod(0)
    said = in_child(lambda: module(Path()).read("train"), imdb_root, locked=True)
    assert said.startswith("DataError: aclImdb/train/pos/3_7.txt cannot be read")
    path.parent.chmod(0)
    said = in_child(lambda: module(Path()).identity(), imdb_root, locked=True)
    assert said.startswith("DataError: aclImdb/train/pos cannot be read")
    path.parent.chmod(0o755)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"3_7\.txt cannot be read \(it is a pipe"):
        module(imdb_root).read("train")
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"3_7\.txt cannot be read \(it has more than"):
        module(imdb_root).read("train")
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(DataError, match="pos cannot be read"):
        module(imdb_root).read("train")


def test_a_name_that_is_no_text_does_not_matter(imdb_root: Path) -> None:
    (imdb_root / "aclImdb/train/pos/\udcff.txt").write_text("good")
    assert len(module(imdb_root).identity()) == 64
    assert "good" in module(imdb_root).read("train").texts
