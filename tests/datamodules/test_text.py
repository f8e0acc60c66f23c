"""Is what a text data module serves what the files say, and is its cache used, refused and renewed rightly?"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import IMDBDataModule, text


def module(root: Path, **options: Any) -> IMDBDataModule:  # noqa: ANN401
    return IMDBDataModule(**{"root": str(root), "vocab_size": 60, "val_fraction": 0.2, **options})


def prepared(root: Path, **options: Any) -> IMDBDataModule:  # noqa: ANN401
    found = module(root, **options)
    found.prepare_data()
    found.setup("fit")
    return found


def rows(data: IMDBDataModule, split: str) -> set[tuple[int, ...]]:
    batch = data.batch(split, "imdb", range(len(data.data["imdb"].split(split).labels)))
    return {tuple(row.tolist()) for row in batch.inputs}


def test_a_batch_holds_the_words_of_the_file(imdb_root: Path) -> None:
    data = prepared(imdb_root)
    batch = data.batch("test", "imdb", [7])
    words = [data.words[i] for i in batch.inputs[0].tolist()]
    assert words == ["film", "<unk>" if "1" not in data.words else "1", "it", "'", "s", "great", "lovely", "."]
    assert batch.targets.tolist() == [1]
    assert torch.equal(data.encode("Film 1: it's great lovely."), batch.inputs[0])


def test_classes_and_vocab_size_are_known_before_setup(imdb_root: Path) -> None:
    data = module(imdb_root)
    assert data.classes == {"imdb": ("negative", "positive")}
    assert data.vocab_size == 60
    with pytest.raises(RuntimeError, match=r"IMDBDataModule holds no data yet: call prepare_data"):
        data.train_dataloader()
    with pytest.raises(RuntimeError, match="no tokenizer yet"):
        data.encode("x")


def test_validation_is_held_back_balanced_and_apart(imdb_root: Path) -> None:
    data = prepared(imdb_root)
    splits = data.data["imdb"]
    assert splits.train.labels.bincount().tolist() == [16, 16]
    assert splits.val.labels.bincount().tolist() == [4, 4]
    assert splits.test.labels.bincount().tolist() == [6, 6]
    other = prepared(imdb_root, split_seed=1)
    assert not torch.equal(other.batch("val", "imdb", range(8)).inputs, data.batch("val", "imdb", range(8)).inputs)
    assert rows(prepared(imdb_root, seed=9), "val") == rows(data, "val")


def test_the_vocabulary_is_from_the_training_split_only(imdb_root: Path) -> None:
    (imdb_root / "aclImdb/test/neg/0_7.txt").write_text("supercalifragilistic " * 50)
    assert "supercalifragilistic" not in prepared(imdb_root).words


def test_token_ids_stay_below_a_small_vocabulary(imdb_root: Path) -> None:
    data = prepared(imdb_root, vocab_size=5)
    assert len(data.words) == 5
    assert int(data.batch("train", "imdb", range(32)).inputs.max()) == 4


def test_the_second_time_nothing_is_read_anew(imdb_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(imdb_root).fingerprint
    monkeypatch.setattr(IMDBDataModule, "read", None)
    assert prepared(imdb_root, max_length=3, keep="head", batch_size=2).fingerprint == first


def test_the_cache_follows_source_and_vocabulary(imdb_root: Path) -> None:
    folder = module(imdb_root).cache_folder()
    assert folder.parent == imdb_root / "dynamo-cache"
    assert folder.name.startswith("imdb-")
    assert module(imdb_root, max_length=7, seed=3, split_seed=2).cache_folder() == folder
    assert module(imdb_root, vocab_size=61).cache_folder() != folder
    (imdb_root / "aclImdb/train/neg/0_7.txt").write_text("another review")
    assert module(imdb_root).cache_folder() != folder


def test_a_damaged_cache_is_written_anew_with_one_warning(imdb_root: Path) -> None:
    data = prepared(imdb_root)
    file = data.cache_folder() / "data.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(RuntimeError, match="is damaged"):
        module(imdb_root).setup("fit")
    with pytest.warns(UserWarning, match=r"is damaged .* It is written anew") as caught:
        module(imdb_root).prepare_data()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepared(imdb_root).fingerprint == data.fingerprint


def test_a_leftover_of_a_killed_run_is_ignored(imdb_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path, corpus: object) -> None:
        part = folder.parent / f".{folder.name}.part-x"
        part.mkdir(parents=True)
        (part / "data.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(text, "write_corpus", killed)
        with pytest.raises(KeyboardInterrupt):
            module(imdb_root).prepare_data()
    with pytest.raises(FileNotFoundError, match="call prepare_data"):
        module(imdb_root).setup("fit")
    assert len(prepared(imdb_root).data["imdb"].train.labels) == 32


def test_a_cache_dir_of_ones_own(imdb_root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("elsewhere")
    prepared(imdb_root, cache_dir=str(place))
    assert not (imdb_root / "dynamo-cache").exists()
    assert len(list(place.iterdir())) == 1


def test_a_review_without_words_becomes_one_unk(imdb_root: Path) -> None:
    (imdb_root / "aclImdb/test/neg/0_7.txt").write_text(';:"')
    batch = prepared(imdb_root).batch("test", "imdb", [0])
    assert batch.inputs.tolist() == [[1]]
    assert batch.lengths.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"vocab_size": 2}, "vocab_size must be at least 3, got 2: set vocab_size to 3 or more"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"keep": "middle"}, "keep must be one of head, tail, random, got 'middle'"),
        ({"val_fraction": 0.0}, r"val_fraction must lie in \(0, 1\), got 0.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"eval_batch_size": -1}, "eval_batch_size must be at least 1"),
        ({"window": 0}, "window must be at least 1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"split_seed": -1}, "split_seed must be at least 0"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        module(tmp_path, **options)


def test_a_val_fraction_that_leaves_nothing_is_an_error(imdb_root: Path) -> None:
    with pytest.raises(ValueError, match=r"val_fraction 0.99 leaves no item to train on"):
        prepared(imdb_root, val_fraction=0.99)


def test_real_reviews_make_a_whole_data_module(real_data: Path, tmp_path: Path) -> None:
    if not (real_data / "ag_news_csv").is_dir():
        pytest.skip(f"{real_data / 'ag_news_csv'} is absent")
    from datamodules import AGNewsDataModule

    data = AGNewsDataModule(str(real_data), str(tmp_path), vocab_size=2000, max_length=40)
    data.prepare_data()
    data.setup("fit")
    assert len(data.words) == 2000
    padded = [data.on_after_batch_transfer(batch, 0)["ag_news"] for batch in data.train_dataloader()]
    share = sum(int(b.lengths.sum()) for b in padded) / sum(b.inputs.numel() for b in padded)
    assert share > 0.95  # almost no padding
