"""Does the tokenizer split as torchtext's basic_english does, and is its vocabulary always the same?"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from datamodules.basic_english import encode, train_tokenizer, words_digest, words_of

TRICKY = [
    "It's a 'test'... \"quoted\"words, (really?) yes!no;maybe:so",
    "Line<br /><br />break <BR /> <br/> < br />",
    'a<br "/>b <br;/> <br\t/>',
    "tabs\tand\nnew\r\nlines\x0b\x0cand\x1c\x1d\x1e\x1f\x85\xa0spaces\u2003here\u3000!",
    "ΟΔΟΣ ΣΑΣ. İstanbul STRASSE ß Ǆ ÀÉ",
    "<pad> x<unk>y <unk>, <PAD>",
    "'''...,,,((()))!!!???;;;:::",
    "don't can't U.S.A. 3.14 1,000 e-mail a_b #1 @me 😀😀 日本語 e\u0301",
    "zero\u200bwidth\ufeffmark",
]


def reference(line: str) -> list[str]:
    """The code of torchtext 0.18's `_basic_english_normalize`, word for word."""
    patterns = [r"\'", r"\"", r"\.", r"<br \/>", r",", r"\(", r"\)", r"\!", r"\?", r"\;", r"\:", r"\s+"]
    replacements = [" '  ", "", " . ", " ", " , ", " ( ", " ) ", " ! ", " ? ", " ", " ", " "]
    line = line.lower()
    for pattern, replacement in zip(patterns, replacements, strict=True):
        line = re.sub(pattern, replacement, line)
    return line.split()


def split(texts: list[str], limit: int = 100_000) -> list[list[str]]:
    """What a tokenizer trained on the texts themselves makes of them, as words."""
    tokenizer = train_tokenizer(texts, limit)
    words = words_of(tokenizer)
    tokens, offsets = encode(tokenizer, texts)
    bounds = offsets.tolist()
    return [[words[i] for i in tokens[a:b].tolist()] for a, b in pairwise(bounds)]


def expected(text: str) -> list[str]:
    """A "<pad>" in a text is an unknown word, and so is a text without words."""
    return ["<unk>" if word == "<pad>" else word for word in reference(text)] or ["<unk>"]


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_strings_split_as_in_torchtext(text: str) -> None:
    assert split([text]) == [expected(text)]


def test_every_single_character_splits_as_in_torchtext() -> None:
    # characters that this Python does not know yet may have a lower case in the library
    known = [chr(code) for code in range(1, 0x3100) if unicodedata.category(chr(code)) != "Cn"]
    texts = [f"a{character}B{character} c" for character in known]
    assert split(texts) == [expected(text) for text in texts]


def test_real_reviews_split_as_in_torchtext(real_data: Path) -> None:
    folder = real_data / "aclImdb" / "train" / "pos"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())[:300]]
    assert split(texts) == [expected(text) for text in texts]


def test_the_vocabulary_holds_the_most_frequent_words_ties_in_alphabetical_order() -> None:
    texts = ["b a c", "c b a", "z z z", "d e f g"]
    counts = Counter(word for text in texts for word in text.split())
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    assert words_of(train_tokenizer(texts, 100)) == ("<pad>", "<unk>", *ranked)
    assert words_of(train_tokenizer(texts, 6)) == ("<pad>", "<unk>", *ranked[:4])


def test_the_vocabulary_is_the_same_every_time_and_in_any_order_of_texts() -> None:
    texts = [f"word{i % 300} word{i % 70} w{i}" for i in range(2000)]
    first = words_of(train_tokenizer(texts, 200))
    assert all(words_of(train_tokenizer(texts[::-1], 200)) == first for _ in range(3))
    assert words_digest(first) == words_digest(list(first))
    assert words_digest(first) != words_digest(first[::-1])


def test_unknown_words_and_texts_without_words_are_unk() -> None:
    tokenizer = train_tokenizer(["a a b"], 3)
    tokens, offsets = encode(tokenizer, ["a b zzz", ';:"', "<pad>"])
    assert tokens.tolist() == [2, 1, 1, 1, 1]
    assert offsets.tolist() == [0, 3, 4, 5]
