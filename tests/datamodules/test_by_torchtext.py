"""Does torchtext give the same words, numbers and items as the project's own way, and what if it is not there?"""

from __future__ import annotations

import sys
import tarfile
import tomllib
import urllib.request
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from datamodules import AGNewsDataModule, DataError, IMDBDataModule, JointDataModule, ag_news, by_torchtext, imdb
from datamodules.basic_english import encode, train_tokenizer, words_of
from datamodules.download import file_md5
from datamodules.encoded_text import RawSplit
from datamodules.text import TextDataModule
from dynamo.types import UserError

ROOT = Path(__file__).resolve().parents[2]
TRICKY = [
    "It's a 'test'... \"quoted\"words, (really?) yes!no;maybe:so",
    'Line<br /><br />break <BR /> <br/> < br /> a<br "/>b <br;/> <br\t/>',
    "tabs\tand\nnew\r\nlines\x0b\x0cand\x1c\x1d\x1e\x1f\x85\xa0spaces\u2003here\u3000!",
    "ΟΔΟΣ ΣΑΣ. İstanbul STRASSE ß Ǆ ÀÉ zero\u200bwidth\ufeffmark",
    "<pad> x<unk>y <unk>, <PAD>",
    "'''...,,,((()))!!!???;;;::: don't U.S.A. 3.14 1,000 e-mail a_b #1 @me 😀😀 日本語 e\u0301",
    ';:"',
    "",
]


@pytest.fixture
def torchtext() -> ModuleType:
    found = pytest.importorskip("torchtext", reason="torchtext loads on the oldest stack alone: make test-oldest")
    by_torchtext.require()
    return found


def archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack `aclImdb` as the publisher would, and have it taken for the publisher's."""
    packed = root / "aclImdb_v1.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
        tar.add(root / "aclImdb", "aclImdb")
    accept(monkeypatch, "imdb", file_md5(packed))
    return packed


def accept(monkeypatch: pytest.MonkeyPatch, name: str, md5: str | dict[str, str]) -> None:
    """Let these be the sums of the publisher, for us and for torchtext, where it is."""
    monkeypatch.setattr({"imdb": imdb, "ag_news": ag_news}[name], "MD5", md5)
    if (theirs := sys.modules.get(f"torchtext.datasets.{name}")) is not None:
        monkeypatch.setattr(theirs, "MD5", md5)


def accept_news(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {split: file_md5(root / f"ag_news_csv/{split}.csv") for split in ("train", "test")}
    accept(monkeypatch, "ag_news", sums)


def prepared(data: Any) -> Any:  # noqa: ANN401
    data.prepare_data()
    data.setup("fit")
    return data


def in_words(words: tuple[str, ...], tokens: torch.Tensor, offsets: torch.Tensor) -> list[list[str]]:
    return [[words[i] for i in tokens[a:b].tolist()] for a, b in pairwise(offsets.tolist())]


def check_the_same_words(torchtext: ModuleType, texts: list[str], vocab_size: int) -> None:
    """Same strings of all texts, same vocabulary in the same order, same numbers."""
    split = torchtext.data.get_tokenizer("basic_english")
    everything = train_tokenizer(texts, 1_000_000)
    expected = [["<unk>" if word == "<pad>" else word for word in split(text)] or ["<unk>"] for text in texts]
    assert in_words(words_of(everything), *encode(everything, texts)) == expected
    vocabulary = by_torchtext.build_vocabulary(texts, vocab_size)
    ours = train_tokenizer(texts, vocab_size)
    assert tuple(vocabulary.get_itos()) == words_of(ours)
    assert all(map(torch.equal, by_torchtext.encode(vocabulary, texts), encode(ours, texts)))


def test_tricky_strings_split_and_count_the_same(torchtext: ModuleType) -> None:
    check_the_same_words(torchtext, TRICKY, 1000)
    check_the_same_words(torchtext, [text for text in TRICKY if "<" not in text], 12)


def test_a_special_word_in_the_texts_takes_a_place_in_torchtexts_vocabulary(torchtext: ModuleType) -> None:
    texts = ["<unk> <unk> <unk> a a b b c c d"]
    assert by_torchtext.build_vocabulary(texts, 5).get_itos() == ["<pad>", "<unk>", "a", "b"]
    assert words_of(train_tokenizer(texts, 5)) == ("<pad>", "<unk>", "a", "b", "c")


def test_1000_real_reviews_give_the_same_words_and_vocabulary(torchtext: ModuleType, real_data: Path) -> None:
    folder = real_data / "aclImdb" / "train"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    paths = [path for name in ("neg", "pos") for path in sorted((folder / name).iterdir())[:500]]
    check_the_same_words(torchtext, [path.read_text(encoding="utf-8") for path in paths], 5000)


def test_torchtext_knows_the_same_files(torchtext: ModuleType) -> None:
    theirs = torchtext.datasets
    assert (theirs.imdb.URL, theirs.imdb.MD5) == (imdb.URL, imdb.MD5)
    assert {split: ag_news.URL.format(split=split) for split in ag_news.MD5} == theirs.ag_news.URL
    assert theirs.ag_news.MD5 == ag_news.MD5


def reviews(raw: RawSplit) -> list[tuple[int, str]]:
    return sorted(zip(raw.labels, raw.texts, strict=True))


def test_imdb_through_torchtext_holds_the_same_reviews(
    torchtext: ModuleType,
    imdb_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = archive(imdb_root, monkeypatch)
    before, temporary = packed.read_bytes(), tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    own = IMDBDataModule(str(imdb_root), vocab_size=40)
    other = IMDBDataModule(str(imdb_root), vocab_size=40, torchtext=True)
    for split in ("train", "test"):
        assert reviews(other.published.read(split)) == reviews(own.read(split))
    assert own.cache_folder() != other.cache_folder()
    assert prepared(own).words == prepared(other).words
    for split in ("train", "val", "test"):
        one, two = (data.data["imdb"].split(split).labels.bincount().tolist() for data in (own, other))
        assert one == two
    tests = [sorted(map(tuple, data.batch("test", "imdb", range(12)).inputs.tolist())) for data in (own, other)]
    assert tests[0] == tests[1]
    assert own.fingerprint["vocabulary"] == other.fingerprint["vocabulary"]
    assert packed.read_bytes() == before
    assert not list(temporary.iterdir())
    assert sorted(path.name for path in imdb_root.iterdir()) == ["aclImdb", "aclImdb_v1.tar.gz", "dynamo-cache"]


def test_reviews_in_another_order_are_other_data(
    torchtext: ModuleType,
    imdb_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tarfile.open(imdb_root / "aclImdb_v1.tar.gz", "w:gz") as tar:
        for path in sorted((imdb_root / "aclImdb").rglob("*.txt"), reverse=True):
            tar.add(path, path.relative_to(imdb_root))
    accept(monkeypatch, "imdb", file_md5(imdb_root / "aclImdb_v1.tar.gz"))
    own, other = (prepared(IMDBDataModule(str(imdb_root), vocab_size=40, torchtext=way)) for way in (False, True))
    assert own.fingerprint["vocabulary"] == other.fingerprint["vocabulary"]
    assert own.fingerprint["data"] != other.fingerprint["data"]


def test_ag_news_through_torchtext_is_the_same_to_the_bit(
    torchtext: ModuleType,
    ag_news_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accept_news(ag_news_root, monkeypatch)
    own, other = (prepared(AGNewsDataModule(str(ag_news_root), vocab_size=40, torchtext=way)) for way in (False, True))
    assert own.cache_folder() != other.cache_folder()
    assert own.words == other.words
    assert own.fingerprint == other.fingerprint


def test_the_real_news_are_the_same_items(torchtext: ModuleType, real_data: Path, tmp_path: Path) -> None:
    data = AGNewsDataModule(str(real_data))
    file = real_data / "ag_news_csv/test.csv"
    if not file.exists() or file_md5(file) != ag_news.MD5["test"]:
        pytest.skip(f"{file} is not the publisher's")
    found, expected = data.published.read("test"), data.read("test")
    assert found.labels == expected.labels
    assert found.texts == expected.texts


def test_real_reviews_through_torchtext_are_the_same_items(
    torchtext: ModuleType,
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not (real_data / "aclImdb").is_dir():
        pytest.skip(f"{real_data / 'aclImdb'} is absent")
    for folder in ("train/neg", "train/pos", "test/neg", "test/pos"):
        here = tmp_path / "aclImdb" / folder
        here.mkdir(parents=True)
        for path in sorted((real_data / "aclImdb" / folder).iterdir())[:250]:
            (here / path.name).write_bytes(path.read_bytes())
    archive(tmp_path, monkeypatch)
    data = IMDBDataModule(str(tmp_path), torchtext=True)
    for split in ("train", "test"):
        assert reviews(data.published.read(split)) == reviews(data.read(split))


def test_two_tasks_through_torchtext_share_one_vocabulary(
    torchtext: ModuleType,
    imdb_root: Path,
    ag_news_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(imdb_root, monkeypatch)
    accept_news(ag_news_root, monkeypatch)
    tasks: list[TextDataModule] = [IMDBDataModule(str(imdb_root)), AGNewsDataModule(str(ag_news_root))]
    own, other = (
        prepared(JointDataModule(tasks, str(imdb_root), vocab_size=60, torchtext=way)) for way in (False, True)
    )
    assert own.words == other.words
    assert {"awful", "market"} <= set(other.words)


def test_what_torchtext_has_encoded_is_used_without_it(
    torchtext: ModuleType,
    ag_news_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accept_news(ag_news_root, monkeypatch)
    first = prepared(AGNewsDataModule(str(ag_news_root), vocab_size=40, torchtext=True))
    monkeypatch.setitem(sys.modules, "torchtext", None)
    again = prepared(AGNewsDataModule(str(ag_news_root), vocab_size=40, torchtext=True))
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.encode("the market, item 2!"), first.encode("the market, item 2!"))


def test_files_of_somebody_else_are_refused_and_left_alone(imdb_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_torchtext, "require", lambda: None)
    monkeypatch.setattr(urllib.request, "urlopen", None)
    (imdb_root / "aclImdb_v1.tar.gz").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"aclImdb_v1.tar.gz has MD5 .* torchtext reads nothing else; torchtext: false"):
        IMDBDataModule(str(imdb_root), torchtext=True).prepare_data()
    assert (imdb_root / "aclImdb_v1.tar.gz").read_bytes() == b"mine"


def test_a_folder_without_its_archive_is_not_enough(imdb_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(by_torchtext, "require", lambda: None)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError, match=rf"{imdb.URL} .* put it into {imdb_root} as aclImdb_v1.tar.gz"):
        IMDBDataModule(str(imdb_root), torchtext=True).prepare_data()


@pytest.mark.parametrize("missing", ["torchtext", "portalocker"])
def test_without_torchtext_the_error_says_what_to_install(
    ag_news_root: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "portalocker":
        pytest.importorskip("torchtext", reason="torchtext loads on the oldest stack alone: make test-oldest")
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(urllib.request, "urlopen", None)
    line = r"pip install torchtext==0.18.0 torch==2.3.1 .* 'numpy<2' portalocker==2.8.2 .* torchtext: false"
    with pytest.raises(UserError, match=f"torchtext does not load here .*{missing}.*{line}"):
        AGNewsDataModule(str(ag_news_root), torchtext=True).prepare_data()
    assert not (ag_news_root / "dynamo-cache").exists()


def test_the_message_names_what_the_extra_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tuple(project["optional-dependencies"]["torchtext"]) == by_torchtext.REQUIREMENTS


def test_a_task_that_torchtext_does_not_know_is_named(tmp_path: Path) -> None:
    class Letters(TextDataModule):
        task = "letters"
        class_names = ("business", "private")

        def fetch(self) -> None: ...

        def identity(self) -> str:
            return ""

        def read(self, split: str) -> RawSplit:
            return RawSplit([split], [0])

    with pytest.raises(UserError, match="no data set for task 'letters'"):
        Letters(str(tmp_path), torchtext=True).prepare_data()
