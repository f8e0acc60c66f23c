"""How does a text become words, and words numbers? torchtext's `basic_english`, as a Hugging Face tokenizer.

The text is lower-cased, punctuation is set apart or dropped, and what stands between spaces is a word. The
vocabulary holds the most frequent words of the training split; words of equal count stand in alphabetical
order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from datamodules.encoded_text import PAD, PAD_WORD, UNK, UNK_WORD

# In this order, after lower-casing; torchtext 0.18, torchtext/data/utils.py, `_patterns` and `_replacements`.
REPLACEMENTS = (
    ("'", " '  "),
    ('"', ""),
    (".", " . "),
    ("<br />", " "),
    (",", " , "),
    ("(", " ( "),
    (")", " ) "),
    ("!", " ! "),
    ("?", " ? "),
    (";", " "),
    (":", " "),
)
_CHUNK = 1000


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """The tokenizer whose vocabulary are <pad>, <unk> and the `vocab_size - 2` most frequent words of `texts`.

    The library is not told that <pad> and <unk> are special: it would cut them out of texts that contain them,
    and give them a second id where they are words of the training split.
    """
    tokenizer = tokenizer_of({})
    trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=[], show_progress=False)
    tokenizer.train_from_iterator(map(str.lower, texts), trainer)
    frequent = [word for word in words_of(tokenizer) if word not in (PAD_WORD, UNK_WORD)]
    return tokenizer_of({word: number for number, word in enumerate([PAD_WORD, UNK_WORD, *frequent][:vocab_size])})


def tokenizer_of(table: dict[str, int]) -> Tokenizer:
    """The tokenizer of these words, each with its id."""
    tokenizer = Tokenizer(models.WordLevel(table, unk_token=UNK_WORD))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            *(normalizers.Replace(old, new) for old, new in REPLACEMENTS),
            # str.split() also splits at these four, the tokenizers library does not
            normalizers.Replace(Regex(r"[\x1c-\x1f]"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Iterable[str]) -> tuple[Tensor, Tensor]:
    """All token ids of `texts` end to end, int32, and where each text begins, int64 `[texts + 1]`.

    A text without any word becomes one <unk>. Texts are lower-cased by Python first: the library's own
    lower-casing differs from it in the Greek final sigma.
    """
    parts: list[np.ndarray[tuple[int], np.dtype[np.int32]]] = []
    for chunk in _chunks(texts):
        encodings = tokenizer.encode_batch([text.lower() for text in chunk], add_special_tokens=False)
        parts += [np.array(encoding.ids or [UNK], dtype=np.int32) for encoding in encodings]
    tokens = np.concatenate(parts)
    tokens[tokens == PAD] = UNK  # the word "<pad>" in a text is no padding
    offsets = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
    return torch.from_numpy(tokens), torch.from_numpy(offsets)


def words_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The word of every id, from 0."""
    vocabulary = tokenizer.get_vocab()
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))


def words_digest(words: Sequence[str]) -> str:
    """The sha256 of a vocabulary: words in the order of their ids."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Pieces of `texts` that bound the memory of an encoding."""
    rest = iter(texts)
    for first in rest:
        yield list(chain([first], islice(rest, _CHUNK - 1)))
