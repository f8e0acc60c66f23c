"""Means, averaged weights and lines, set against the test run and against the functions they come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamo.analysis import averaged_weights, bundle_accuracy, with_own_statistics
from dynamo.analyze.averaging import Averaging
from dynamo.analyze.base import Result
from dynamo.analyze.run import FinishedRun
from dynamo.cli import main
from dynamo.types import UserError

Analysed = Callable[..., dict[str, Any]]


def test_averaging_knows_the_accuracy_of_the_base_models(analysed: Analysed, run: Path) -> None:
    (found,) = analysed("averaging", "--steps", "3")["tasks"].values()
    tested = json.loads((run / "results/fidelity_test.json").read_text())
    originals = [row["original_accuracy"] for row in tested["members"]]
    assert found["base"] == pytest.approx(originals)
    assert found["base_best"] == pytest.approx(max(originals))
    assert list(found["mean_theta"]) == ["all", "100%", "50%", "20%"]
    assert list(found["averaged_weights"]) == ["all", "100%", "50%", "20%"]
    assert all(0 <= value <= 1 for value in [*found["mean_theta"].values(), *found["averaged_weights"].values()])
    assert 0.5 <= found["chance"] < 0.6
    assert [line["between"] for line in found["lines"]] == ["100%-0 → 100%-1", "100%-0 → 50%-0", "100%-0 → 20%-0"]


def test_a_line_ends_at_its_members(analysed: Analysed, run: Path, finished: FinishedRun) -> None:
    found = analysed("averaging", "--steps", "2", "--between", "['50%-1:20%-2']", "--subset", "['50%-1', '20%-2']")
    (numbers,) = found["tasks"].values()
    (line,) = numbers["lines"]
    emulators = json.loads((run / "results/fidelity_test.json").read_text())["members"]
    accuracy = {row["name"]: row["accuracy"] for row in emulators}
    assert line["accuracy"] == pytest.approx([accuracy["50%-1"], accuracy["20%-2"]])
    (bundle,) = finished.task.population.bundles
    base = bundle_accuracy(bundle, finished.tasks[0], finished.test_batches)
    ends = [finished.index_of("50%-1"), finished.index_of("20%-2")]
    assert line["weights_accuracy"] == pytest.approx(base[ends].tolist())
    assert "subset" in numbers["mean_theta"]


def test_unknown_members_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "averaging", "--run", str(run), "--subset", "[nobody]"])
    assert "no member 'nobody'; the population has 100%-0" in capsys.readouterr().err


def test_lambda_0_has_no_answers(finished: FinishedRun) -> None:
    finished.task.output_weight = 0.0
    with pytest.raises(UserError, match="the readout G was not trained"):
        Averaging().numbers(finished)


def test_averaged_batch_norms_are_measured_with_statistics_of_their_own_too(
    pictures: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamo.analyze.averaging.IMAGES", 150)
    analysis = Averaging(steps=2)
    content = analysis.content(pictures)
    found = content["tasks"]["digits"]
    (bundle,) = pictures.task.population.bundles
    drawn = pictures.loaded.drawn("train", "digits", 150)
    batches = [{"digits": pictures.batch("train", "digits", drawn[part::2])} for part in (0, 1)]
    for name, members in (("all", [0, 1, 2, 3]), ("plain", [2, 3])):
        average = averaged_weights(bundle.take(members))
        own = with_own_statistics(average, "digits", batches)
        for key, network in (("averaged_weights", average), ("averaged_weights_own_statistics", own)):
            assert found[key][name] == float(bundle_accuracy(network, "digits", pictures.test_batches))
    assert found["averaged_weights"] != found["averaged_weights_own_statistics"]
    pictures.folder.write_result("averaging", content)
    analysis.draw([[Result(pictures.folder, pictures.folder.read_result("averaging"))]])


def test_recurrent_networks_have_no_such_statistics(analysed: Analysed) -> None:
    (found,) = analysed("averaging", "--steps", "2")["tasks"].values()
    assert "averaged_weights_own_statistics" not in found
