"""Two tasks whose truth is known, in one language: is a review positive, and what is it about?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from datamodules.encoded_text import Keep
from datamodules.resident import TaskData
from datamodules.synthetic import FloatArray, SyntheticSentimentDataModule
from datamodules.text import split_task


class SyntheticTopicsDataModule(SyntheticSentimentDataModule):
    """The synthetic language twice: its sentiment, and on reviews of their own its topic; needs no files.

    The words that sentiment leaves alone, the neutral ones, are about the screen or about the sound, in turn. A review
    is about the sound with the probability that the sentiment has at the same score, the score being the number of its
    words about the sound minus that of words about the screen. Valenced words, negations and intensifiers do nothing
    here. A network that knows one task so knows nothing of the other, though both add up words.

    Args:
        train_size: items of each task generated for training and validation.
        test_size: items of each task generated for testing.
        vocab_size: see `SyntheticSentimentDataModule`, as for all that follow.
        min_length: words of the shortest review.
        max_length: words of the longest review.
        sharpness: how surely the score decides the class.
        noise: share of labels that are turned over whatever the score, in [0, 0.5).
        keep: which words would be read of a longer review; none is longer.
        data_seed: decides the reviews and their labels.
        val_fraction: share of the training items held back for validation.
        split_seed: decides which items are held back.
        batch_size: items per member, step and process in training.
        eval_batch_size: items per batch in evaluation.
        seed: decides the order of the items.
        window: batches per length bucket.
        val_items: see `IndexedDataModule`, as for test_items.
        test_items: see `IndexedDataModule`.

    Examples:
        >>> from datamodules import SyntheticTopicsDataModule
        >>> data = SyntheticTopicsDataModule(train_size=200, test_size=50)
        >>> data.prepare_data()
        >>> data.setup()
        >>> data.tasks, sorted(next(iter(data.batches("test"))))
        (('...', '...'), ['...'])
    """

    topic_task: ClassVar[str] = "topic"

    def __init__(
        self,
        train_size: int = 4000,
        test_size: int = 1000,
        vocab_size: int = 64,
        min_length: int = 8,
        max_length: int = 32,
        sharpness: float = 1.0,
        noise: float = 0.0,
        keep: Keep = "tail",
        data_seed: int = 0,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        seed: int = 0,
        window: int = 50,
        val_items: int | None = None,
        test_items: int | None = None,
    ) -> None:
        super().__init__(
            train_size,
            test_size,
            vocab_size,
            min_length,
            max_length,
            sharpness,
            noise,
            keep,
            data_seed,
            val_fraction,
            split_seed,
            batch_size,
            eval_batch_size,
            seed,
            window,
            val_items,
            test_items,
        )
        self.classes = {**self.classes, self.topic_task: ("screen", "sound")}
        known = {*self.words[:2], *self.language.valence, *self.language.factor}
        neutral = [word for word in self.words if word not in known]
        self.topic: dict[str, float] = {word: (-1.0, 1.0)[place % 2] for place, word in enumerate(neutral)}
        """What every neutral word adds to the score of the topic."""

    @property
    def optimal_accuracies(self) -> dict[str, float]:
        """The accuracy nobody can beat on each task's test split."""
        chance = self._topics("test")[2]
        return {self.task: self.optimal_accuracy, self.topic_task: float(np.maximum(chance, 1 - chance).mean())}

    def load(self) -> dict[str, TaskData]:
        """Generate all splits of both tasks."""
        train, test = (self.encoded(*self._topics(split)[:2]) for split in ("train", "test"))
        return {**super().load(), self.topic_task: split_task(train, test, self.val_fraction, self.split_seed)}

    def _topics(self, split: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
        """Padded ids `[items, T]`, labels `[items]` and the probability of "sound" `[items]`."""
        rng = np.random.default_rng([self.data_seed, 2 + ("train", "test").index(split)])
        tokens = self.draw_texts(rng, self.train_size if split == "train" else self.test_size)
        chance = self.chance_of(np.array([self.topic.get(word, 0.0) for word in self.words])[tokens].sum(1))
        return tokens, (rng.random(len(tokens)) < chance).astype(np.int64), chance
