"""Scores over the plane, and the effect of single words at X."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamo.analyze.run import FinishedRun
from dynamo.analyze.word_scores import WordScores
from dynamo.cli import main
from dynamo.types import UserError

Analysed = Callable[..., dict[str, Any]]
MAP = ("--size", "2", "--search_size", "2", "--rounds", "1", "--candidates", "2")
SMALL = ("--size", "2", "--seeds", "4", "--items", "4", "--lexicon_size", "10")


def test_scores_over_the_plane(analysed: Analysed, finished: FinishedRun) -> None:
    analysed("accuracy_map", *MAP)
    found = analysed("word_scores", *SMALL, "--words", "[superb, terrible]")
    for name in ("standardised", "logits"):
        known = [value for row in found[name]["map"] for value in row if value is not None]
        assert found[name]["map_maximum"] == max(known)
        assert found[name]["map_minimum"] == min(known)
        assert all(value is not None for value in found[name]["originals"])
    assert all(-1 <= value <= 1 for row in found["standardised"]["map"] for value in row if value is not None)
    valence = finished.loaded.valence  # type: ignore[attr-defined]
    signs = [valence.get(word, 0.0) for word in found["lexicon"]]
    assert all(value > 0 for value in signs[:5])  # the lexicon finds the words that the language is made of
    assert all(value < 0 for value in signs[5:])
    assert set(found["words"]) == {"superb", "terrible"}
    assert len(found["members"]) == 12


def test_a_word_outside_the_vocabulary_is_named(
    analysed: Analysed, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "word_scores", "--run", str(run), "--words", "[zyzzyva]"])
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "the word 'zyzzyva' is not in the vocabulary of 64 words" in said


def test_image_networks_are_refused_before_any_work(pictures: FinishedRun) -> None:
    with pytest.raises(UserError, match=r"needs a recurrent network that reads words, and .* of a ResidualMetaModel"):
        WordScores().numbers(pictures)
    assert "loaded" not in vars(pictures)
