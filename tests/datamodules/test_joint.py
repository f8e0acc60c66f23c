"""Do two tasks share one vocabulary, and do their batches come together in training and apart in evaluation?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser

from datamodules import AGNewsDataModule, IMDBDataModule, JointDataModule, TextDataModule


@pytest.fixture
def root(imdb_root: Path, ag_news_root: Path) -> Path:
    assert imdb_root == ag_news_root
    return imdb_root


def module(root: Path, vocab_size: int = 60) -> JointDataModule:
    children: list[TextDataModule] = [IMDBDataModule(root=str(root)), AGNewsDataModule(root=str(root))]
    found = JointDataModule(
        children, root=str(root), vocab_size=vocab_size, val_fraction=0.2, batch_size=4, eval_batch_size=5
    )
    assert found.classes == {
        "imdb": ("negative", "positive"),
        "ag_news": ("World", "Sports", "Business", "Sci/Tech"),
    }
    return found


def prepared(root: Path) -> JointDataModule:
    found = module(root)
    found.prepare_data()
    found.setup("fit")
    return found


def test_one_vocabulary_from_both_training_splits(root: Path) -> None:
    words = prepared(root).words
    assert {"awful", "lovely", "market", "item"} <= set(words)
    assert words[:2] == ("<pad>", "<unk>")
    alone = IMDBDataModule(root=str(root), vocab_size=60)
    alone.prepare_data()
    alone.setup("fit")
    assert "market" not in alone.words
    assert alone.fingerprint["vocabulary"] != prepared(root).fingerprint["vocabulary"]


def test_training_batches_hold_both_tasks_and_an_epoch_is_the_larger_one(root: Path) -> None:
    data = prepared(root)
    loader = data.train_dataloader()
    assert len(loader) == 32 // 4
    for batch in loader:
        assert list(batch) == ["imdb", "ag_news"]
        assert all(part.indices.shape == (4,) for part in batch.values())


def test_evaluation_batches_hold_one_task_each_and_every_item_once(root: Path) -> None:
    data = prepared(root)
    seen: dict[str, list[int]] = {"imdb": [], "ag_news": []}
    order = []
    for batch in data.test_dataloader():
        ((task, part),) = batch.items()
        seen[task] += part.indices.tolist()
        order.append(task)
    assert order == ["imdb"] * 3 + ["ag_news"] * 2
    assert sorted(seen["imdb"]) == list(range(12))
    assert sorted(seen["ag_news"]) == list(range(8))


def test_what_is_read_is_what_was_written(root: Path) -> None:
    data = prepared(root)
    text = module(root).sources[1].read("test").texts[3]
    batch = data.batch("test", "ag_news", [3])
    assert torch.equal(batch.inputs[0], data.encode(text))
    assert batch.targets.tolist() == [3]


def test_the_same_task_twice_or_none_is_an_error(root: Path) -> None:
    with pytest.raises(ValueError, match=r"different tasks, got \['imdb', 'imdb'\]"):
        JointDataModule([IMDBDataModule(), IMDBDataModule()])
    with pytest.raises(ValueError, match=r"one or more different tasks, got \[\]"):
        JointDataModule([])


def test_it_can_be_configured_from_yaml(root: Path) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(JointDataModule, "data")
    config = parser.parse_string(
        "data:\n  class_path: datamodules.JointDataModule\n  init_args:\n    vocab_size: 70\n    tasks:\n"
        f"    - {{class_path: datamodules.IMDBDataModule, init_args: {{root: {root}}}}}\n"
        "    - class_path: datamodules.AGNewsDataModule\n"
    )
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # before jsonargparse 4.45
    data = instantiate(config).data
    assert data.tasks == ("imdb", "ag_news")
    assert (data.vocab_size, data.sources[0].root) == (70, root)
