"""What if the truth about the language were known? A generated sentiment language with a known best accuracy.

Valenced words add to a review's score; a negation flips the next valenced word, an intensifier multiplies it,
neutral words do nothing and stand anywhere. A review is positive with probability

    p = noise + (1 - 2 noise) sigmoid(sharpness * score),

so no classifier is right more often than the mean of max(p, 1 - p).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.base import IndexedDataModule, check_at_least
from datamodules.basic_english import words_digest
from datamodules.encoded_text import PAD_WORD, UNK, UNK_WORD, EncodedText, Keep, check_reading
from datamodules.resident import TaskData
from datamodules.schedule import check_val_fraction
from datamodules.text import split_task

FloatArray = npt.NDArray[np.float64]

_POSITIVE = {
    "good": 1.0,
    "great": 2.0,
    "nice": 0.5,
    "superb": 3.0,
    "fine": 0.5,
    "lovely": 1.0,
    "brilliant": 2.0,
}
_NEGATIVE = {
    "bad": -1.0,
    "awful": -2.0,
    "dull": -0.5,
    "terrible": -3.0,
    "weak": -0.5,
    "boring": -1.0,
    "poor": -2.0,
}
_NEGATION = {"not": -1.0, "never": -1.0, "hardly": -1.0}
_INTENSIFIER = {"very": 2.0, "really": 1.5, "extremely": 3.0}
_NEUTRAL = (
    "the",
    "film",
    "a",
    "plot",
    "and",
    "actor",
    "scene",
    "was",
    "music",
    "story",
    "it",
    "of",
    "camera",
    "this",
)
# word kind -> share of the vocabulary, share of the text
_SHARES = {
    "positive": (0.2, 0.15),
    "negative": (0.2, 0.15),
    "negation": (0.05, 0.1),
    "intensifier": (0.05, 0.1),
}


class Memory(NamedTuple):
    """All that a perfect reader keeps of what it has read: what attractors and states can be compared with.

    Attributes:
        score: of the words so far, `[items]`.
        waiting: what the next valenced word will be multiplied by, `[items]`: 1 where nothing waits, below 0 after a
            negation, above 1 after an intensifier.
    """

    score: FloatArray
    waiting: FloatArray


@dataclass(frozen=True)
class Language:
    """The words, what each of them does, and how often it is used.

    Attributes:
        words: the word of every id; `<pad>` and `<unk>` first.
        valence: what a valenced word adds to the score.
        factor: what a modifier multiplies the next valenced word by: -1 a negation, above 1 an intensifier.
        share: how often each id is drawn, `[words]`.
    """

    words: tuple[str, ...]
    valence: dict[str, float]
    factor: dict[str, float]
    share: FloatArray = field(repr=False)

    @classmethod
    def build(cls, vocab_size: int) -> Language:
        """The language of `vocab_size` words, `<pad>` and `<unk>` included."""
        words, shares = [PAD_WORD, UNK_WORD], [0.0, 0.0]
        valence: dict[str, float] = {}
        factor: dict[str, float] = {}
        kinds = (
            ("positive", _POSITIVE, valence),
            ("negative", _NEGATIVE, valence),
            ("negation", _NEGATION, factor),
            ("intensifier", _INTENSIFIER, factor),
        )
        for kind, stems, meaning in kinds:
            of_words, of_text = _SHARES[kind]
            chosen = _numbered(tuple(stems), max(1, round(of_words * (vocab_size - 2))))
            meaning.update({word: stems[stem] for word, stem in chosen.items()})
            words += chosen
            shares += [of_text / len(chosen)] * len(chosen)
        neutral = _numbered(_NEUTRAL, vocab_size - len(words))
        shares += [(1 - sum(shares)) / len(neutral)] * len(neutral)
        return cls((*words, *neutral), valence, factor, np.array(shares) / sum(shares))

    def scores(self, tokens: npt.NDArray[np.int64]) -> FloatArray:
        """The score of every row of ids `[items, T]`; padding (0) does nothing."""
        return self.memory(tokens).score

    def memory(self, tokens: npt.NDArray[np.int64]) -> Memory:
        """What does one have to know after reading rows of ids `[items, T]`, to go on reading? Padding does nothing."""
        valence = np.array([self.valence.get(word, 0.0) for word in self.words])
        factor = np.array([self.factor.get(word, 1.0) for word in self.words])
        score, waiting = np.zeros(len(tokens)), np.ones(len(tokens))
        for ids in tokens.T:
            score += waiting * valence[ids]
            waiting = np.where(valence[ids] != 0, 1.0, waiting * factor[ids])
        return Memory(score, waiting)


class SyntheticSentimentDataModule(IndexedDataModule):
    """Reviews in a language whose rules are known; needs no files.

    Args:
        train_size: items generated for training and validation.
        test_size: items generated for testing.
        vocab_size: words of the language, `<pad>` and `<unk>` included.
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

    Raises:
        ValueError: a number is out of its range; the message names the option.

    Examples:
        >>> from datamodules import SyntheticSentimentDataModule
        >>> data = SyntheticSentimentDataModule()
        >>> [round(data.probability(words.split()), 2) for words in ("a film", "good film", "not good", "not very bad")]
        [0.5, 0.73, 0.27, 0.88]
    """

    task = "synthetic"

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
        super().__init__(batch_size, eval_batch_size, seed, window, val_items, test_items)
        check_at_least(20, train_size=train_size, vocab_size=vocab_size)
        check_at_least(1, test_size=test_size, min_length=min_length)
        check_at_least(0, data_seed=data_seed, split_seed=split_seed)
        check_reading(max_length, keep)
        check_val_fraction(val_fraction)
        if min_length > max_length:
            raise ValueError(f"min_length {min_length} exceeds max_length {max_length}: lower it.")
        if not 0 <= noise < 0.5:
            raise ValueError(f"noise must lie in [0, 0.5), got {noise}: 0.1 turns a tenth of the labels over.")
        if sharpness <= 0:
            raise ValueError(f"sharpness must be above 0, got {sharpness}: 1 is the default.")
        self.classes = {self.task: ("negative", "positive")}
        self.vocab_size = vocab_size
        self.language = Language.build(vocab_size)
        self.train_size, self.test_size = train_size, test_size
        self.min_length, self.max_length, self.keep = min_length, max_length, keep
        self.sharpness, self.noise = sharpness, noise
        self.data_seed, self.val_fraction, self.split_seed = data_seed, val_fraction, split_seed

    @property
    def words(self) -> tuple[str, ...]:
        """The word of every id."""
        return self.language.words

    @property
    def valence(self) -> dict[str, float]:
        """What every valenced word adds to the score."""
        return self.language.valence

    @property
    def optimal_accuracy(self) -> float:
        """The accuracy nobody can beat on the test split: the mean of max(p, 1 - p) over its reviews."""
        positive = self._generate("test")[2]
        return float(np.maximum(positive, 1 - positive).mean())

    def probability(self, words: Sequence[str]) -> float:
        """How probable it is that a review of these words is positive; unknown words count as neutral."""
        ids = self.encode(" ".join(words)).numpy()
        return float(self._positive(ids[None])[0])

    def encode(self, text: str) -> Tensor:
        """The token ids of words between spaces, int64 `[T]`."""
        table = {word: number for number, word in enumerate(self.words)}
        return torch.tensor([max(UNK, table.get(word, UNK)) for word in text.split()] or [UNK])

    def vocabulary_digest(self) -> str:
        """The sha256 of the words in the order of their ids."""
        return words_digest(self.words)

    def load(self) -> dict[str, TaskData]:
        """Generate all splits."""
        train, test = (self.encoded(*self._generate(split)[:2]) for split in ("train", "test"))
        return {self.task: split_task(train, test, self.val_fraction, self.split_seed)}

    def encoded(self, tokens: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> EncodedText:
        """Texts as they are kept, of padded ids `[items, T]` and labels `[items]`."""
        real = tokens > 0
        offsets = np.cumsum([0, *real.sum(axis=1)], dtype=np.int64)
        flat = torch.from_numpy(tokens[real].astype(np.int32))
        return EncodedText(flat, torch.from_numpy(offsets), torch.from_numpy(labels), self.max_length, self.keep)

    def _generate(self, split: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
        """Padded ids `[items, T]`, labels `[items]` and the probability of "positive" `[items]`."""
        rng = np.random.default_rng([self.data_seed, ("train", "test").index(split)])
        tokens = self.draw_texts(rng, self.train_size if split == "train" else self.test_size)
        positive = self._positive(tokens)
        return tokens, (rng.random(len(tokens)) < positive).astype(np.int64), positive

    def draw_texts(self, rng: np.random.Generator, items: int) -> npt.NDArray[np.int64]:
        """Padded ids `[items, T]` of new texts."""
        lengths = rng.integers(self.min_length, self.max_length, size=items, endpoint=True)
        tokens = rng.choice(self.vocab_size, size=(items, self.max_length), p=self.language.share)
        return np.where(np.arange(self.max_length) < lengths[:, None], tokens, 0).astype(np.int64)

    def _positive(self, tokens: npt.NDArray[np.int64]) -> FloatArray:
        """The probability of "positive" for padded ids `[items, T]`, `[items]`."""
        return self.chance_of(self.language.scores(tokens))

    def chance_of(self, scores: FloatArray) -> FloatArray:
        """How probable is the second class at these scores?"""
        return self.noise + (1 - 2 * self.noise) * 0.5 * (1 + np.tanh(self.sharpness * scores / 2))


def _numbered(stems: Sequence[str], count: int) -> dict[str, str]:
    """Words made of `stems` and the stem of each: good, bad, good2, bad2, ..."""
    found = {}
    for number in range(count):
        turn, place = divmod(number, len(stems))
        found[f"{stems[place]}{turn + 1 if turn else ''}"] = stems[place]
    return found
