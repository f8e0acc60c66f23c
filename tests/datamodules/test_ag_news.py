"""Are news items read as published, and is every malformed row named by file and line?"""

from __future__ import annotations

import urllib.request
from pathlib import Path

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
