"""Is the best possible accuracy of the synthetic language what it claims to be?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import SyntheticSentimentDataModule


def module(**options: Any) -> SyntheticSentimentDataModule:  # noqa: ANN401
    found = SyntheticSentimentDataModule(**options)
    found.prepare_data()
    found.setup("fit")
    return found


def bayes_probability(data: SyntheticSentimentDataModule, words: list[str]) -> float:
    """The rules of the language once more, word by word."""
    score, pending = 0.0, 1.0
    for word in words:
        if word in data.language.factor:
            pending *= data.language.factor[word]
        elif word in data.valence:
            score += pending * data.valence[word]
            pending = 1.0
    return data.noise + (1 - 2 * data.noise) / (1 + math.exp(-data.sharpness * score))


@pytest.mark.parametrize("options", [{}, {"noise": 0.2}, {"sharpness": 0.3}, {"max_length": 60}])
def test_the_bayes_classifier_reaches_the_optimal_accuracy(options: dict[str, Any]) -> None:
    data = module(test_size=4000, **options)
    test = data.data["synthetic"].test
    batch = test.gather(torch.arange(4000), data.max_length, None)
    right, best = 0, 0.0
    for row, length, target in zip(batch.inputs, batch.lengths, batch.targets.tolist(), strict=True):
        probability = bayes_probability(data, [data.words[i] for i in row[: int(length)].tolist()])
        right += int((probability > 0.5) == target)
        best += max(probability, 1 - probability)
    assert data.optimal_accuracy == pytest.approx(best / 4000, abs=1e-9)
    assert right / 4000 == pytest.approx(data.optimal_accuracy, abs=0.025)  # four standard errors and ties
    assert 0.6 < data.optimal_accuracy < 0.95


def test_the_labels_are_calibrated() -> None:
    data = module(test_size=8000)
    _, labels, positive = data._generate("test")
    for low in np.arange(0.1, 0.9, 0.2):
        near = (positive > low) & (positive < low + 0.2)
        assert labels[near].mean() == pytest.approx(positive[near].mean(), abs=0.05)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("good", 1.0),
        ("not good", -1.0),
        ("very good", 2.0),
        ("not very good", -2.0),
        ("not the film good good", 0.0),
        ("extremely awful not", -6.0),
        ("the film", 0.0),
        ("never heard good", -1.0),
    ],
)
def test_negation_and_intensifiers_act_on_the_next_valenced_word(text: str, score: float) -> None:
    probability = module().probability(text.split())
    assert probability == pytest.approx(1 / (1 + np.exp(-score)))


@pytest.mark.parametrize(
    ("text", "score", "waiting"),
    [
        ("good not", 1.0, -1.0),
        ("not the very film", 0.0, -2.0),
        ("not very good", -2.0, 1.0),
        ("awful extremely", -2.0, 3.0),
        ("film", 0.0, 1.0),
    ],
)
def test_a_perfect_reader_remembers_the_score_and_what_waits(text: str, score: float, waiting: float) -> None:
    data = module()
    memory = data.language.memory(data.encode(text).numpy()[None])
    assert (memory.score.tolist(), memory.waiting.tolist()) == ([score], [waiting])


def test_the_options_do_what_they_say() -> None:
    data = module(train_size=200, test_size=30, vocab_size=200, min_length=5, max_length=9, val_fraction=0.2)
    splits = data.data["synthetic"]
    assert [len(part.labels) for part in (splits.train, splits.val, splits.test)] == [160, 40, 30]
    assert {int(n) for n in splits.train.lengths} == {5, 6, 7, 8, 9}
    assert len(data.words) == len(set(data.words)) == 200
    assert all(data.valence[word] > 0 for word in ("good", "great2"))
    assert all(word in data.words for word in (*data.valence, *data.language.factor))


def test_the_data_follow_data_seed_alone() -> None:
    first = module().fingerprint
    assert module(seed=5, batch_size=7).fingerprint == first
    assert module(data_seed=1).fingerprint["data"] != first["data"]
    assert module(vocab_size=100).fingerprint["vocabulary"] != first["vocabulary"]


def test_training_and_test_reviews_are_different() -> None:
    data = module(train_size=500, test_size=500)
    train, test = data._generate("train")[0], data._generate("test")[0]
    assert not np.array_equal(train, test)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"noise": 0.5}, r"noise must lie in \[0, 0.5\), got 0.5"),
        ({"sharpness": 0.0}, "sharpness must be above 0, got 0.0"),
        ({"vocab_size": 10}, "vocab_size must be at least 20, got 10"),
        ({"train_size": 3}, "train_size must be at least 20, got 3"),
        ({"min_length": 40}, "min_length 40 exceeds max_length 32"),
        ({"min_length": 0}, "min_length must be at least 1"),
        ({"val_fraction": 1.0}, r"val_fraction must lie in \(0, 1\), got 1.0"),
        ({"data_seed": -1}, "data_seed must be at least 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SyntheticSentimentDataModule(**options)
