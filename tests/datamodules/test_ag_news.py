"""Are news items read as published, and is every malformed row named by file and line?"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules import AGNewsDataModule, DataError


def module(root: Path) -> AGNewsDataModule:
    return AGNewsDataModule(root=str(root), vocab_size=50)


def test_title_and_description_are_joined(ag_news_root: Path) -> None:
    found = module(ag_news_root).read("train")
    assert found.labels == [number % 4 for number in range(24)]
    assert found.texts[0] == 'Item 0, "quoted" '
    assert found.texts[1] == 'Item 1, "quoted" news '
    assert found.texts[2] == 'Item 2, "quoted" news news  about market 2'


def test_a_folder_placed_by_hand_needs_no_checksum_and_no_network(
    ag_news_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", None)
    module(ag_news_root).prepare_data()


def test_the_identity_follows_the_content(ag_news_root: Path) -> None:
    before = module(ag_news_root).identity()
    path = ag_news_root / "ag_news_csv/test.csv"
    path.write_text(path.read_text().replace("Item", "Atem"))
    assert module(ag_news_root).identity() != before


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ('"5","a title","text"', "line 3: label '5' is not one of 1, 2, 3, 4"),
        ('"0","a title","text"', "line 3: label '0' is not"),
        ("no label", "line 3: label 'no label' is not"),
        ("", "line 3: label '' is not"),
        ('"1"', "line 3: the item has no text"),
        ('"1",""," "', "line 3: the item has no text"),
        ('"1","open', "line 3: unexpected end of data"),
    ],
)
def test_a_malformed_row_is_named(ag_news_root: Path, row: str, match: str) -> None:
    path = ag_news_root / "ag_news_csv/train.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]) + row + "\n")
    with pytest.raises(DataError, match=rf"train.csv, {match}"):
        module(ag_news_root).prepare_data()


def test_an_empty_file_is_named(ag_news_root: Path) -> None:
    (ag_news_root / "ag_news_csv/test.csv").write_text("")
    with pytest.raises(DataError, match=r"test\.csv is empty: delete it"):
        module(ag_news_root).prepare_data()


def test_a_file_in_another_encoding_is_named(ag_news_root: Path) -> None:
    (ag_news_root / "ag_news_csv/test.csv").write_bytes(b'"1","caf\xe9"\n')
    with pytest.raises(DataError, match=r"test\.csv is no UTF-8 text"):
        module(ag_news_root).prepare_data()


def test_offline_the_error_names_url_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError, match=rf"train.csv .*no route.* into {tmp_path}/ag_news_csv as train.csv"):
        module(tmp_path).prepare_data()


def test_the_real_test_set_is_complete(real_data: Path) -> None:
    if not (real_data / "ag_news_csv").is_dir():
        pytest.skip(f"{real_data / 'ag_news_csv'} is absent")
    found = AGNewsDataModule(root=str(real_data)).read("test")
    assert [found.labels.count(label) for label in range(4)] == [1900] * 4


def test_what_is_no_file_is_refused_without_waiting(ag_news_root: Path, in_child: Callable[..., str]) -> None:
    path = ag_news_root / "ag_news_csv/train.csv"
    path.chmod(0)
    said = in_child(lambda: module(Path()).read("train"), ag_news_root, locked=True)
    assert said.startswith("DataError: ag_news_csv/train.csv cannot be read")
    path.unlink()
    os.mkfifo(path)
    for read in (module(ag_news_root).identity, lambda: module(ag_news_root).read("train")):
        with pytest.raises(DataError, match=r"train\.csv cannot be read \(it is a pipe"):
            read()
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"train\.csv cannot be read \(it has more than"):
        module(ag_news_root).read("train")


@pytest.mark.parametrize(
    ("row", "match"), [(b'"1","' + b"x" * 200_000 + b'"\n', "field larger than field limit"), (b'"1\0","x"\n', "label")]
)
def test_a_field_without_end_or_with_a_nul_is_named(ag_news_root: Path, row: bytes, match: str) -> None:
    (ag_news_root / "ag_news_csv/train.csv").write_bytes(row)
    with pytest.raises(DataError, match=rf"train\.csv, line 1: .*{match}"):
        module(ag_news_root).read("train")


def test_broken_files_are_read_as_rows_or_refused(ag_news_root: Path, broken_copies: Callable[..., Any]) -> None:
    path, refused = ag_news_root / "ag_news_csv/train.csv", 0
    for copy in broken_copies(path.read_bytes(), 2000):
        path.write_bytes(copy)
        try:
            found = module(ag_news_root).read("train")
        except DataError:
            refused += 1
        else:
            assert len(found.texts) == len(found.labels) > 0
            assert set(found.labels) <= {0, 1, 2, 3}
            assert all(text.strip() for text in found.texts)
    assert refused > 800
