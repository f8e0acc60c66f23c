"""Is a cache whole or absent, whatever happened while it was written?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import text_cache
from datamodules.basic_english import encode, train_tokenizer, words_of
from datamodules.encoded_text import EncodedText
from datamodules.text_cache import Corpus, DamagedCacheError, cache_key, read_corpus, write_corpus

TEXTS = ["a good film", "a bad <pad> film .", "nothing"]


def corpus() -> Corpus:
    tokenizer = train_tokenizer(TEXTS, 50)
    text = EncodedText(*encode(tokenizer, TEXTS), torch.tensor([1, 0, 1]))
    return Corpus(tokenizer, {"t": {"train": text, "test": text.select(torch.tensor([2, 0]))}})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_corpus(tmp_path / "cache" / "t-1", corpus())
    found = read_corpus(tmp_path / "cache" / "t-1")
    assert found.digests() == corpus().digests()
    assert words_of(found.tokenizer) == words_of(corpus().tokenizer)
    assert torch.equal(encode(found.tokenizer, TEXTS)[0], encode(corpus().tokenizer, TEXTS)[0])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["t-1"]


def test_a_kill_before_the_rename_leaves_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "t-1"

    def killed(part: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(text_cache, "_move_into_place", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # nobody cleans up after SIGKILL
        with pytest.raises(KeyboardInterrupt):
            write_corpus(folder, corpus())
    assert len(list(tmp_path.iterdir())) == 1  # the leftover
    with pytest.raises(FileNotFoundError, match="call prepare_data"):
        read_corpus(folder)
    write_corpus(folder, corpus())
    assert read_corpus(folder).digests() == corpus().digests()


@pytest.mark.parametrize("name", ["data.safetensors", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_damage_is_seen(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "t-1"
    write_corpus(folder, corpus())
    file = folder / name
    content = file.read_bytes()
    if damage == "delete":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        place = content.index(b"digests") if name == "manifest.json" else len(content) - 20
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(DamagedCacheError, match="t-1 is damaged"):
        read_corpus(folder)


def test_a_whole_copy_that_another_process_may_be_reading_stays(tmp_path: Path) -> None:
    folder = tmp_path / "t-1"
    write_corpus(folder, corpus())
    before = (folder / "manifest.json").stat().st_ino
    write_corpus(folder, corpus())
    assert (folder / "manifest.json").stat().st_ino == before
    assert [path.name for path in tmp_path.iterdir()] == ["t-1"]


def write_and_read(place: Path) -> list[bool]:
    """What a process does that finds an empty cache, again and again."""
    found = []
    for number in range(20):
        write_corpus(place / f"t-{number}", corpus())
        found.append(read_corpus(place / f"t-{number}").digests() == corpus().digests())
    return found


def test_three_processes_start_on_an_empty_cache(tmp_path: Path, in_processes: Callable[..., list[Any]]) -> None:
    assert in_processes(3, write_and_read, tmp_path) == [[True] * 20] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"t-{number}" for number in range(20))


def test_writing_again_replaces_what_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "t-1"
    write_corpus(folder, corpus())
    (folder / "data.safetensors").write_bytes(b"")
    write_corpus(folder, corpus())
    assert read_corpus(folder).digests() == corpus().digests()
    assert [path.name for path in tmp_path.iterdir()] == ["t-1"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="set cache_dir to a folder that can be written to"):
        write_corpus(tmp_path / "file" / "t-1", corpus())


def test_the_key_covers_every_part() -> None:
    keys = {cache_key(parts) for parts in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": 1, "b": 1})}
    assert len(keys) == 4
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
