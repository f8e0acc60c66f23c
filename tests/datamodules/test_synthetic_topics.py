"""Are the two synthetic tasks what they claim: one language, two truths, each with a known best accuracy?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules import SyntheticSentimentDataModule, SyntheticTopicsDataModule


@pytest.fixture(scope="module")
def data() -> SyntheticTopicsDataModule:
    found = SyntheticTopicsDataModule(train_size=300, test_size=4000)
    found.prepare_data()
    found.setup("fit")
    return found


def topic_score(data: SyntheticTopicsDataModule, words: list[str]) -> float:
    return sum(data.topic.get(word, 0.0) for word in words)


def test_the_bayes_classifier_of_the_topic_reaches_its_optimal_accuracy(data: SyntheticTopicsDataModule) -> None:
    test = data.data["topic"].test
    batch = test.gather(torch.arange(4000), data.max_length, None)
    right, best = 0, 0.0
    for row, target in zip(batch.inputs, batch.targets.tolist(), strict=True):
        chance = 1 / (1 + np.exp(-topic_score(data, [data.words[i] for i in row.tolist()])))
        right += int((chance > 0.5) == target)
        best += max(chance, 1 - chance)
    optimal = data.optimal_accuracies["topic"]
    assert optimal == pytest.approx(best / 4000, abs=1e-9)
    assert right / 4000 == pytest.approx(optimal, abs=0.03)  # ties, where any answer is right half of the time
    assert 0.75 < optimal < 0.95


def test_sentiment_is_that_of_the_language_alone(data: SyntheticTopicsDataModule) -> None:
    alone = SyntheticSentimentDataModule(train_size=300, test_size=4000)
    alone.setup("fit")
    assert data.data["synthetic"].digest == alone.data["synthetic"].digest
    assert data.fingerprint["vocabulary"] == alone.fingerprint["vocabulary"]
    assert data.optimal_accuracies["synthetic"] == alone.optimal_accuracy


def test_the_tasks_share_no_word_that_matters_and_no_review(data: SyntheticTopicsDataModule) -> None:
    assert not set(data.topic) & {*data.valence, *data.language.factor, *data.words[:2]}
    assert {*data.topic, *data.valence, *data.language.factor} == set(data.words[2:])
    assert abs(sum(data.topic.values())) <= 1
    reviews = [
        {tuple(row.tolist()) for row in part.test.gather(torch.arange(500), 32, None).inputs}
        for part in data.data.values()
    ]
    assert len(reviews[0] & reviews[1]) == 0


def test_training_batches_hold_both_tasks(data: SyntheticTopicsDataModule) -> None:
    assert data.tasks == ("synthetic", "topic")
    batch = data.calibration_batch(8)
    assert {task: len(part.targets) for task, part in batch.items()} == {"synthetic": 8, "topic": 8}
    other = SyntheticTopicsDataModule(train_size=300, test_size=4000, data_seed=1)
    other.setup("fit")
    assert other.data["topic"].digest != data.data["topic"].digest
