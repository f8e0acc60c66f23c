"""Newcomers are held against their originals as members are; what was asked before is not asked again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamo.analysis.clustering import distances_to
from dynamo.analyze.base import Result
from dynamo.analyze.embed import Embed, own_group
from dynamo.analyze.run import FinishedRun
from dynamo.cli import main
from dynamo.population import Member, Population, RecurrentBundle, ResidualBundle, load_populations
from dynamo.runs import RunFolder

Analysed = Callable[..., dict[str, Any]]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def own(trained: Path) -> str:
    """The folder of the population that the map was made of."""
    return str(trained / "population/population")


def saved(place: Path, vocab_size: int = 64, task: str = "synthetic", classes: int = 2) -> str:
    """A population of two untrained GRUs, of a size that the map has not seen."""
    bundle = RecurrentBundle(2, "gru", vocab_size, 5, 7, classes)
    bundle.initialise([1, 2])
    return str(Population([bundle], [[Member(f"new-{i}", "new", task, i) for i in range(2)]]).save(place))


def test_the_whole_road(analysed: Analysed, own: str, run: Path) -> None:
    found = analysed("embed", "--population", own, "--steps", "8", "--neighbours", "2")
    members, rows = found["members"], found["newcomers"]
    assert [row["name"] for row in rows] == [member["name"] for member in members]
    assert all(row["on_map"] for row in rows)
    assert found["own_group"] == {"nearest": 0, "count": 0, "share": None}
    assert len(found["curve"]) == 8
    tested = json.loads((run / "results/fidelity_test.json").read_text())["mean"]
    assert found["fidelity_of_members"] == pytest.approx(tested, abs=1e-6)
    for key in ("variance_explained", "kl", "agreement", "accuracy", "original_accuracy"):
        assert found["fidelity"][key] == pytest.approx(sum(row[key] for row in rows) / len(rows))
    distances = distances_to(*(torch.tensor([row["theta"] for row in part]) for part in (rows, members)))
    for row, line in zip(rows, distances, strict=True):
        assert [near["distance"] for near in row["nearest"]] == pytest.approx(line.sort().values[:2].tolist())
        assert row["nearest"][0]["name"] == members[int(line.argmin())]["name"]
        assert row["nearest_group"] == min(row["distance_to_groups"], key=row["distance_to_groups"].get)
        first = [i for i, member in enumerate(members) if member["group"] == "50%"]
        assert row["distance_to_groups"]["50%"] == pytest.approx(float(line[first].mean()))


def test_networks_of_another_size_come_too(analysed: Analysed, tmp_path: Path) -> None:
    found = analysed("embed", "--population", saved(tmp_path / "new"), "--steps", "3")
    assert [row["name"] for row in found["newcomers"]] == ["new-0", "new-1"]
    assert found["own_group"]["count"] == 0  # a group that the map does not know
    assert not any(row["on_map"] for row in found["newcomers"])
    assert torch.tensor([row["theta"] for row in found["newcomers"]]).shape == (2, 16)


def test_numbers_are_kept_until_options_or_newcomers_change(
    analysed: Analysed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    numbers = Embed.numbers

    def counted(self: Embed, run: FinishedRun) -> dict[str, Any]:
        asked.append(self.steps)
        return numbers(self, run)

    monkeypatch.setattr(Embed, "numbers", counted)
    folder = saved(tmp_path / "new")
    for steps in ("2", "2", "3"):
        first = analysed("embed", "--population", folder, "--steps", steps)
    assert asked == [2, 3]
    population = load_populations(folder)
    shutil.rmtree(folder)
    with torch.no_grad():
        next(population.bundles[0].parameters()).mul_(2.0)
    population.save(folder)
    assert analysed("embed", "--population", folder, "--steps", "3")["newcomers"] != first["newcomers"]
    assert asked == [2, 3, 3]


def test_the_same_seed_gives_the_same_place(finished: FinishedRun, tmp_path: Path) -> None:
    folder = saved(tmp_path / "new")
    one, again, other = (Embed(folder, steps=3, seed=seed).numbers(finished) for seed in (0, 0, 1))
    assert one == again
    assert one["curve"][0] != other["curve"][0]


def test_a_member_that_was_left_out_is_judged(commands: dict[str, list[str]], own: str, tmp_path: Path) -> None:
    run = tmp_path / "without"
    out = ["50%-1", "20%-0"]
    main(["fit", *commands["meta"], "--run", str(run), "--model.init_args.leave_out", json.dumps(out)])
    main(["analyze", "embed", "--run", str(run), "--population", own, "--steps", "3"])
    everyone = RunFolder(run).read_result("embed")
    main(["analyze", "embed", "--run", str(run), "--population", own, "--steps", "3", "--only", json.dumps(out)])
    found = RunFolder(run).read_result("embed")
    assert [row["name"] for row in found["newcomers"]] == out
    assert len(everyone["newcomers"]) == len(everyone["members"]) + 2
    assert [row["name"] for row in everyone["newcomers"] if not row["on_map"]] == out
    for one in (found, everyone):
        assert not {member["name"] for member in one["members"]} & set(out)
        assert one["own_group"]["count"] == 2


def test_only_strangers_of_known_groups_are_judged() -> None:
    rows = [
        {"on_map": False, "group": "a", "nearest_group": "a"},
        {"on_map": False, "group": "a", "nearest_group": "b"},
        {"on_map": False, "group": "new", "nearest_group": "a"},
        {"on_map": True, "group": "b", "nearest_group": "b"},
    ]
    assert own_group(rows, ["a", "a", "b"]) == {"nearest": 1, "count": 2, "share": 0.5}


def test_images_have_newcomers_too(pictures: FinishedRun, tmp_path: Path) -> None:
    bundle = ResidualBundle(1, [3, 4, 5, 6], [1, 1, 1, 1], 10)
    bundle.initialise([9])
    folder = Population([bundle], [[Member("late", "crop", "digits", policy="crop")]]).save(tmp_path / "late")
    analysis = Embed(str(folder), steps=2)
    pictures.folder.write_result("embed", analysis.content(pictures))
    found = pictures.folder.read_result("embed")
    assert found["own_group"]["count"] == 1
    assert "variance_explained_stage4" in found["newcomers"][0]
    analysis.draw([[Result(pictures.folder, found)]])


def test_lambda_0_asks_the_newcomers_own_readouts(finished: FinishedRun, own: str) -> None:
    finished.task.output_weight = 0.0
    found = Embed(own, steps=2).numbers(finished)
    expected = Embed(own, steps=2).numbers(replace(finished))
    assert found["fidelity"] == expected["fidelity"]
    assert all(0 <= value <= 1 for value in (found["fidelity"]["agreement"], found["fidelity"]["accuracy"]))


def test_what_does_not_fit_is_one_line(run: Path, tmp_path: Path, capsys: Capture) -> None:
    pictures = ResidualBundle(1, [4, 4, 4, 4], [1, 1, 1, 1], 2)
    images = Population([pictures], [[Member("r", "r", "synthetic")]]).save(tmp_path / "images")
    for folder, complaint in (
        (tmp_path / "nowhere", "manifest.json is missing. Train one"),
        (
            saved(tmp_path / "words", vocab_size=65),
            "reads a vocabulary of 65, the data module's has 64; choose networks",
        ),
        (
            saved(tmp_path / "task", task="reviews"),
            "'new-0' does task 'reviews', the map knows synthetic; choose networks that were",
        ),
        (
            saved(tmp_path / "classes", classes=3),
            "tells 3 classes of task 'synthetic' apart, the networks of the map 2; choose",
        ),
        (images, "'r' reads images, the data module has words"),
    ):
        with pytest.raises(SystemExit):
            main(["analyze", "embed", "--run", str(run), "--population", str(folder)])
        (said,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
        assert complaint in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "population"),
        (["--population", "x", "--steps", "0"], "steps is 0; it has to be at least 1"),
        (["--population", "x", "--theta_lr", "0"], "theta_lr is 0.0; it has to be above 0"),
        (["--population", "x", "--neighbours", "0"], "neighbours is 0"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], complaint: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["analyze", "embed", "--run", "x", *words])
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert complaint in said
