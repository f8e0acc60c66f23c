"""Whatever happens to a cache of encoded texts: it is read as it was written, or known to be damaged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from datamodules.basic_english import encode, train_tokenizer
from datamodules.encoded_text import EncodedText
from datamodules.text_cache import Corpus, DamagedCacheError, read_corpus, write_corpus

BrokenCopies = Callable[[bytes, int], Iterator[bytes]]
InChild = Callable[..., str]
TEXTS = ["a good film", "a bad <pad> film .", "nothing"]
FILES = ("data.safetensors", "tokenizer.json", "manifest.json")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    tokenizer = train_tokenizer(TEXTS, 50)
    text = EncodedText(*encode(tokenizer, TEXTS), torch.tensor([1, 0, 1]))
    return Corpus(tokenizer, {"t": {"train": text, "test": text.select(torch.tensor([2, 0]))}})


@pytest.fixture
def folder(corpus: Corpus, tmp_path: Path) -> Path:
    write_corpus(tmp_path / "t-1", corpus)
    return tmp_path / "t-1"


def vouch(folder: Path) -> None:
    """Let the manifest say that the tensors and the tokenizer are what they are, as far as they can be read at all."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tokenizer"] = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    try:
        tensors = load_file(folder / "data.safetensors")
        for name in manifest["digests"]:
            parts = (tensors[f"{name}/{field}"] for field in ("tokens", "offsets", "labels"))
            manifest["digests"][name] = EncodedText(*parts).digest()
    except Exception:  # noqa: BLE001 - there is nothing to vouch for
        pass
    (folder / "manifest.json").write_text(json.dumps(manifest))


def is_refused(folder: Path) -> bool:
    try:
        read_corpus(folder)
    except DamagedCacheError:
        return True
    return False


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_noticed_or_harmless(
    folder: Path, corpus: Corpus, broken_copies: BrokenCopies, name: str
) -> None:
    whole, refused = (folder / name).read_bytes(), 0
    for copy in broken_copies(whole, 1000):
        (folder / name).write_bytes(copy)
        try:
            found = read_corpus(folder)
        except DamagedCacheError:
            refused += 1
        else:
            assert found.digests() == corpus.digests()
            assert found.tokenizer.to_str() == corpus.tokenizer.to_str()
    assert refused > 800


@pytest.mark.parametrize("name", FILES[:2])
def test_a_broken_file_that_its_manifest_vouches_for_is_sound(
    folder: Path, corpus: Corpus, broken_copies: BrokenCopies, name: str
) -> None:
    refused = 0
    for copy in broken_copies((folder / name).read_bytes(), 1000):
        (folder / name).write_bytes(copy)
        vouch(folder)
        try:
            found = read_corpus(folder)
        except DamagedCacheError:
            refused += 1
            continue
        words = found.tokenizer.get_vocab_size()
        for split in ("train", "test"):
            found.splits["t"][split].validate(split, words, 1 << 62)
        assert encode(found.tokenizer, TEXTS)[1].tolist() == encode(corpus.tokenizer, TEXTS)[1].tolist()
    assert refused > 700


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(padding={"strategy": {"Fixed": 1 << 40}, "direction": "Right", "pad_to_multiple_of": None,
                                    "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}),
        lambda t: t.update(truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
        lambda t: t.update(added_tokens=[{"id": 0, "content": "a", "single_word": False, "lstrip": False,
                                          "rstrip": False, "normalized": False, "special": True}]),
        lambda t: t.update(normalizer=None),
        lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": []}),
        lambda t: t.update(post_processor={"type": "TemplateProcessing", "single": [], "pair": [],
                                           "special_tokens": {}}),
        lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        lambda t: t.update(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
        lambda t: t.update(model={"type": "BPE", "vocab": {"a": 0}, "merges": []}),
        lambda t: t.update(model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}),
        lambda t: t.update(model=None),
        lambda t: t["model"].update(vocab={"a": 0, "b": 2}),
        lambda t: t["model"].update(vocab={"a": 0, "b": 0}),
        lambda t: t["model"].update(vocab={"a": -1}),
        lambda t: t["model"].update(vocab={"a": True}),
        lambda t: t["model"].update(vocab={"a": 1 << 40}),
        lambda t: t["model"].update(vocab=["a"]),
        lambda t: t["model"].update(vocab={}),
        lambda t: t["model"].update(unk_token="a"),
        lambda t: t.clear(),
    ],
)  # fmt: skip
def test_a_tokenizer_by_other_rules_is_not_taken(folder: Path, in_child: InChild, change: Change) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    vouch(folder)
    assert in_child(lambda: read_corpus(folder), folder, memory=256 << 20).startswith("DamagedCacheError")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update({"t/train/tokens": t["t/train/tokens"].long()}),
        lambda t: t.update({"t/train/tokens": t["t/train/tokens"].bfloat16()}),
        lambda t: t.update({"t/train/tokens": t["t/train/tokens"].to(torch.float8_e4m3fn)}),
        lambda t: t.update({"t/train/tokens": t["t/train/tokens"][None]}),
        lambda t: t.update({"t/train/offsets": t["t/train/offsets"].int()}),
        lambda t: t.update({"t/train/labels": t["t/train/labels"].double()}),
        lambda t: t.update({"t/train/labels": t["t/train/labels"][0].clone()}),
        lambda t: t.update({"t/train/labels": t["t/train/labels"][:-1]}),
        lambda t: t["t/train/labels"].fill_(-1),
        lambda t: t["t/train/offsets"].fill_(1 << 62),
        lambda t: t["t/train/offsets"][1:3].neg_(),
        lambda t: t["t/train/tokens"].fill_(50),
        lambda t: t["t/train/tokens"].fill_(0),
        lambda t: t.pop("t/test/labels"),
        lambda t: t.clear(),
    ],
)  # fmt: skip
def test_tensors_that_are_no_texts_are_not_taken(folder: Path, change: Change) -> None:
    tensors = load_file(folder / "data.safetensors")
    change(tensors)
    save_file(tensors, folder / "data.safetensors")
    vouch(folder)
    assert is_refused(folder)


@pytest.mark.parametrize(
    "content",
    ["1", "[]", "{}", '"x"', '{"digests": [1], "tokenizer": "X"}', '{"digests": {}, "tokenizer": "X"}', "[" * 100_000,
     '{"digests": {"t/train/x": ""}, "tokenizer": "X"}', '{"digests": {"t/train": ""}, "tokenizer": "X"}',
     '{"digests": 3, "tokenizer": "X"}', '{"digests": null, "tokenizer": "X"}', "\x80", "1" * 5000],
)  # fmt: skip
def test_a_manifest_of_anything_is_not_taken(folder: Path, content: str) -> None:
    own = json.loads((folder / "manifest.json").read_text())["tokenizer"]
    (folder / "manifest.json").write_text(content.replace("X", own), encoding="latin-1")
    assert is_refused(folder)


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_not_waited_for(folder: Path, in_child: InChild, name: str) -> None:
    (folder / name).chmod(0)
    assert in_child(lambda: read_corpus(Path()), folder, locked=True).startswith("DamagedCacheError")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert is_refused(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert in_child(lambda: read_corpus(folder), folder, memory=64 << 20).startswith("DamagedCacheError")


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_without_end_is_not_read(folder: Path, in_child: InChild, name: str) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(1 << 40)
    assert in_child(lambda: read_corpus(folder), folder, memory=64 << 20).startswith("DamagedCacheError")
