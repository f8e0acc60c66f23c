"""Labels come from items that nobody was trained on; the search ends where the library's search ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dynamo.analysis import accuracy_at
from dynamo.analysis.labels import draw_labels
from dynamo.analysis.plane import plane_of
from dynamo.analysis.semi_supervised import search
from dynamo.analyze.base import Result
from dynamo.analyze.run import FinishedRun
from dynamo.analyze.semi_supervised import SemiSupervised
from dynamo.cli import main

Analysed = Callable[..., dict[str, Any]]
SMALL = ("--counts", "[4, 10]", "--draws", "2", "--steps", "5", "--scratch_steps", "5")


def test_the_path_is_that_of_the_library(analysed: Analysed, finished: FinishedRun) -> None:
    found = analysed("semi_supervised", *SMALL)
    (name,) = finished.tasks
    targets = finished.loaded.data[name].val.labels
    labelled = finished.batch("val", name, draw_labels(targets, 10, seed=1))
    expected = search(finished.task.network, name, labelled, steps=5, lr=0.03)
    path = plane_of(finished.task.theta).project(expected.path)
    torch.testing.assert_close(torch.tensor(found["paths"]["10"][1]), path, atol=1e-5, rtol=0, check_dtype=False)
    start = accuracy_at(finished.task.network, torch.zeros(1, 16), name, finished.test_batches)
    assert found["start"] == pytest.approx(float(start))
    assert set(found["labels"]) == {"4", "10"}
    assert set(found["labels"]["10"]) == {"search", "search_std", "scratch", "scratch_std"}
    assert found["base_best"] == float(finished.base_accuracies[name].max())


def test_an_unknown_task_is_named(run: Any, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ANN401
    with pytest.raises(SystemExit):
        main(["analyze", "semi_supervised", "--run", str(run), "--task", "imdb"])
    assert "no task 'imdb'; the population has synthetic" in capsys.readouterr().err


def test_images_are_searched_like_words(pictures: FinishedRun) -> None:
    analysis = SemiSupervised(counts=[10, 20], draws=2, steps=3, scratch_steps=3)
    found = analysis.content(pictures)
    targets = pictures.loaded.data["digits"].val.labels
    labelled = pictures.batch("val", "digits", draw_labels(targets, 20, seed=1))
    expected = search(pictures.task.network, "digits", labelled, steps=3, lr=0.03)
    path = plane_of(pictures.task.theta).project(expected.path)
    torch.testing.assert_close(torch.tensor(found["paths"]["20"][1]), path, atol=1e-5, rtol=0, check_dtype=False)
    assert set(found["labels"]["20"]) == {"search", "search_std", "scratch", "scratch_std"}
    pictures.folder.write_result("semi_supervised", found)
    analysis.draw([[Result(pictures.folder, pictures.folder.read_result("semi_supervised"))]])


def test_fewer_labels_than_classes_are_refused_before_any_work(pictures: FinishedRun) -> None:
    with pytest.raises(ValueError, match="counts begins with 5 labels, and digits has 10 classes"):
        SemiSupervised(counts=[5, 20]).numbers(pictures)
    assert not {"base_accuracies", "test_batches"} & set(vars(pictures))
