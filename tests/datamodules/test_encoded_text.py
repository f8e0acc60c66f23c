"""Is a gathered batch what a naive loop would have written?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.encoded_text import EncodedText, Keep, check_reading

RNG = np.random.default_rng(1)
TEXTS = [RNG.integers(1, 50, size).tolist() for size in RNG.integers(1, 30, 40)]


def encoded(max_length: int = 12, keep: Keep = "tail") -> EncodedText:
    offsets = torch.tensor([0, *np.cumsum([len(text) for text in TEXTS])])
    tokens = torch.tensor([token for text in TEXTS for token in text], dtype=torch.int32)
    return EncodedText(tokens, offsets, torch.arange(40) % 2, max_length, keep)


def naive(indices: list[int], longest: int, max_length: int, keep: Keep) -> list[list[int]]:
    rows = []
    for index in indices:
        kept = TEXTS[index][:max_length] if keep == "head" else TEXTS[index][-max_length:]
        rows.append(kept + [0] * (longest - len(kept)))
    return rows


@pytest.mark.parametrize("keep", ["head", "tail"])
@pytest.mark.parametrize("max_length", [1, 12, 100])
def test_gather_equals_a_naive_loop(keep: Keep, max_length: int) -> None:
    data = encoded(max_length, keep)
    indices = list(RNG.permutation(40)[:15])
    longest = int(data.lengths[indices].max())
    batch = data.gather(torch.tensor(indices), longest, None)
    assert batch.inputs.tolist() == naive(indices, longest, max_length, keep)
    assert batch.lengths.tolist() == [min(len(TEXTS[i]), max_length) for i in indices]
    assert torch.equal((batch.inputs != 0).sum(-1), batch.lengths)
    assert batch.targets.tolist() == [i % 2 for i in indices]
    assert batch.inputs.dtype == batch.targets.dtype == batch.lengths.dtype == torch.int64


def test_members_that_read_their_own_items_get_a_leading_n() -> None:
    indices = torch.arange(30).reshape(3, 10)
    batch = encoded().gather(indices, 12, None)
    assert batch.inputs.shape == (3, 10, 12)
    assert batch.targets.shape == batch.lengths.shape == (3, 10)
    assert torch.equal(batch.inputs[1], encoded().gather(indices[1], 12, None).inputs)


def test_a_random_window_lies_in_the_text_and_depends_on_the_generator_alone() -> None:
    data, indices = encoded(5, "random"), torch.arange(40)
    draws = [data.gather(indices, 5, [np.random.default_rng(seed)]).inputs for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    starts = set()
    for index, row in enumerate(draws[0].tolist()):
        text, size = TEXTS[index], min(5, len(TEXTS[index]))
        places = [start for start in range(len(text) - size + 1) if text[start : start + size] == row[:size]]
        assert places
        starts.add(places[0])
    assert len(starts) > 5
    assert torch.equal(data.gather(indices, 5, None).inputs, encoded(5).gather(indices, 5, None).inputs)


def test_select_copies_the_texts_in_order() -> None:
    items = torch.tensor([7, 3, 39, 0])
    some = encoded(100).select(items)
    longest = int(some.lengths.max())
    assert some.gather(torch.arange(4), longest, None).inputs.tolist() == naive([7, 3, 39, 0], longest, 100, "head")
    assert some.labels.tolist() == [1, 1, 1, 0]
    some.validate("some", 50, 2)


def test_the_digest_is_about_the_content_not_the_reading() -> None:
    assert encoded(3, "head").digest() == encoded(100).digest()
    other = encoded()
    other.tokens[0] += 1
    assert other.digest() != encoded().digest()


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("offsets", torch.tensor([0, 1]), "2 offsets do not fit 40 labels"),
        ("offsets", torch.zeros(41, dtype=torch.int64), "do not cover"),
        ("labels", torch.full((40,), 2), r"label lies outside 0..1"),
        ("tokens", torch.zeros(sum(map(len, TEXTS)), dtype=torch.int32), r"token id lies outside 1..49"),
    ],
)
def test_what_no_encoder_wrote_is_refused(field: str, value: torch.Tensor, match: str) -> None:
    encoded().validate("fine", 50, 2)
    with pytest.raises(ValueError, match=f"imdb train: .*{match}"):
        replace(encoded(), **{field: value}).validate("imdb train", 50, 2)  # type: ignore[arg-type]


def test_a_text_without_tokens_is_refused() -> None:
    offsets = encoded().offsets.clone()
    offsets[5] = offsets[4]
    with pytest.raises(ValueError, match="text 4 has no token"):
        replace(encoded(), offsets=offsets).validate("x", 50, 2)


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="max_length must be at least 1, got 0"):
        check_reading(0, "head")
    with pytest.raises(ValueError, match="keep must be one of head, tail, random, got 'middle'"):
        check_reading(5, "middle")
