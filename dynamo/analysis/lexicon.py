"""Which words are positive, and which negative? Polarities and a lexicon from labelled training reviews (Figure 11)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dynamo.analysis.emulator import check_tokens
from dynamo.types import TaskBatch

_RESERVED = 2  # ids below are no words: 0 is padding, 1 the unknown word


class Polarities(NamedTuple):
    """Which way does each word of the vocabulary point?

    Attributes:
        polarity: smoothed log-odds between positive and negative reviews, float64 `[vocabulary]`; 0 for a word that
            stands nowhere, for padding and for the unknown word.
        counts: reviews that the word stands in, int64 `[vocabulary]`.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import polarities
        >>> reviews = TaskBatch(torch.tensor([[2, 3], [2, 4]]), torch.tensor([1, 0]), torch.tensor([2, 2]))
        >>> polarities([reviews], vocab_size=6).counts  # word 2 stands in both reviews, word 5 in none
        tensor([0, 0, 2, 1, 1, 0])
    """

    polarity: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Lexicon:
    """Which words is a network asked about?

    Attributes:
        ids: the words, int64 `[K]`: the positive ones, then the negative ones, the most polar first.
        polarity: their log-odds, float64 `[K]`, never 0.
        counts: reviews that each stands in, int64 `[K]`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Lexicon
        >>> words = Lexicon(torch.tensor([7, 3]), torch.tensor([1.4, -2.0]).double(), torch.tensor([90, 60]))
        >>> words.signs
        tensor([ 1., -1.], dtype=torch.float64)
    """

    ids: Tensor
    polarity: Tensor
    counts: Tensor

    @property
    def signs(self) -> Tensor:
        """1 for a positive word, -1 for a negative one, float64 `[K]`."""
        return self.polarity.sign()


def polarities(
    batches: Iterable[TaskBatch], vocab_size: int, positive: int = 1, negative: int = 0, smoothing: float = 1.0
) -> Polarities:
    """In how many more positive than negative reviews does each word stand?

    With p of P positive and n of N negative reviews, the polarity of a word is the log of its odds ratio,
    `log((p + s) / (P - p + s)) - log((n + s) / (N - n + s))`.

    Args:
        batches: training reviews `[B, T]`, each once; how often a word stands in one review does not matter.
        vocab_size: number of token ids.
        positive: class of the positive reviews.
        negative: that of the negative ones; reviews of other classes are passed over.
        smoothing: s, above 0.

    Raises:
        ValueError: there are no reviews of one of the classes, or a token id is not in the vocabulary.

    Not given in the paper: how a word's polarity is found.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import polarities
        >>> reviews = TaskBatch(torch.tensor([[2, 3], [2, 4]]), torch.tensor([1, 0]), torch.tensor([2, 2]))
        >>> polarities([reviews], vocab_size=5).polarity.round(decimals=2)  # 2 is neutral, 3 good, 4 bad: log 4 = 1.39
        tensor([ 0.0000,  0.0000,  0.0000,  1.3900, -1.3900], dtype=torch.float64)
    """
    if positive == negative:
        raise ValueError(f"positive and negative are both class {positive}; give two classes")
    if not smoothing > 0:
        raise ValueError(f"smoothing must be above 0, got {smoothing}: a word of one class only has no finite log-odds")
    reviews, standing = [0, 0], torch.zeros(2, vocab_size, dtype=torch.int64)
    for batch in batches:
        if batch.inputs.ndim != 2:
            raise ValueError(f"reviews must be [B, T], got {list(batch.inputs.shape)}")
        tokens = batch.inputs.masked_fill(~batch.real_steps(), 0).cpu()
        check_tokens(tokens, vocab_size)
        present = torch.zeros(len(tokens), vocab_size, dtype=torch.bool).scatter_(1, tokens, True)
        for side, value in enumerate((positive, negative)):
            of_class = batch.targets.cpu() == value
            reviews[side] += int(of_class.sum())
            standing[side] += present[of_class].sum(0)
    for count, value in zip(reviews, (positive, negative), strict=True):
        if not count:
            raise ValueError(f"there is no review of class {value}; polarity compares reviews of both classes")
    standing[:, :_RESERVED] = 0
    without = torch.tensor(reviews).unsqueeze(1) - standing
    odds = ((standing.double() + smoothing) / (without.double() + smoothing)).log()
    return Polarities((odds[0] - odds[1]).masked_fill(standing.sum(0) == 0, 0.0), standing.sum(0))


def lexicon(polarity: Tensor, counts: Tensor, size: int = 200, least: int = 50) -> Lexicon:
    """Which frequent words are the most polar?

    Args:
        polarity: of every word, `[vocabulary]`.
        counts: reviews that it stands in, `[vocabulary]`.
        size: K, half of each sign; even.
        least: reviews that a word has to stand in, for its polarity to be more than chance.

    Raises:
        ValueError: `size` is odd or below 2, or there are too few such words.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import lexicon
        >>> polarity, counts = torch.tensor([0.0, 0.0, 1.0, 3.0, -2.0, -9.0]), torch.tensor([0, 0, 80, 70, 60, 3])
        >>> lexicon(polarity, counts, size=2).ids  # the most polar of each sign; word 5 is too rare
        tensor([3, 4])
    """
    if size < 2 or size % 2:
        raise ValueError(f"size must be even and at least 2, half for each sign, got {size}")
    if polarity.ndim != 1 or polarity.shape != counts.shape:
        raise ValueError(f"polarity {list(polarity.shape)} and counts {list(counts.shape)} must be [vocabulary] both")
    values, often = polarity.detach().cpu().double(), counts.detach().cpu()
    chosen, available = [], []
    for sign in (1.0, -1.0):
        words = ((sign * values > 0) & (often >= least)).nonzero().flatten()
        order = (sign * values[words]).argsort(descending=True, stable=True)
        available.append(len(words))
        chosen.append(words[order][: size // 2])
    if min(available) < size // 2:
        raise ValueError(
            f"a lexicon of {size} needs {size // 2} words of each sign in {least} reviews or more, and there are "
            f"{available[0]} positive and {available[1]} negative ones; lower size or least, or read more reviews"
        )
    ids = torch.cat(chosen)
    return Lexicon(ids, values[ids], often[ids])
