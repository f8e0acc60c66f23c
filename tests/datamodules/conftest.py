"""Tiny copies of the publishers' folders."""

from __future__ import annotations

from pathlib import Path

import pytest

WORDS = {
    "neg": ("awful", "dull", "bad", "boring"),
    "pos": ("good", "great", "lovely", "fine"),
}


def _review(name: str, number: int) -> str:
    """A review whose length and words depend on its class and number."""
    words = [WORDS[name][(number + place) % 4] for place in range(1 + number % 9)]
    return f"Film {number}: it's " + " ".join(words) + "."


@pytest.fixture
def imdb_root(tmp_path: Path) -> Path:
    """A root with aclImdb: 40 training and 12 test reviews."""
    for split, count in (("train", 20), ("test", 6)):
        for name in WORDS:
            folder = tmp_path / "aclImdb" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}_7.txt").write_text(_review(name, number), encoding="utf-8")
    return tmp_path


@pytest.fixture
def ag_news_root(tmp_path: Path) -> Path:
    """A root with ag_news_csv: 24 training and 8 test items, in some of which the description is empty."""
    folder = tmp_path / "ag_news_csv"
    folder.mkdir()
    for split, count in (("train", 24), ("test", 8)):
        rows = []
        for number in range(count):
            title = f'"Item {number}, ""quoted"" {"news " * (number % 5)}"'
            rest = ("", ',""', f',"about market {number}"')[number % 3]
            rows.append(f'"{number % 4 + 1}",{title}{rest}\n')
        (folder / f"{split}.csv").write_text("".join(rows), encoding="utf-8")
    return tmp_path
