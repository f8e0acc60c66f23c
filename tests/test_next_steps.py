"""Does every command end with where its results are and the command that goes on from there?"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from torch import nn

from dynamo import MemberGroup, MetaTask, Population, PopulationTask
from dynamo.cli import main
from dynamo.next_steps import STAGE, after, after_analysis, map_config
from dynamo.population import RecurrentClassifier
from dynamo.runs import RunFolder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that was trained, in a folder whose name has to be quoted."""
    found = RunFolder(tmp_path / "my run")
    (found.root / "population").mkdir(parents=True)
    found.config.touch()
    return found


@pytest.fixture
def population() -> PopulationTask:
    return PopulationTask([MemberGroup("all", count=1, hidden_size=3)], 9, {"film": ("bad", "good")})


@pytest.fixture
def map_task() -> MetaTask:
    return MetaTask(Population.from_modules([RecurrentClassifier("gru", 9, 2, 3, 2)], task="film"), 9, dimensions=2)


def commands(told: str) -> list[list[str]]:
    """The words of the commands that are named, as a shell reads them."""
    return [shlex.split(line.removeprefix("next:"), comments=True) for line in told.splitlines() if "dynamo " in line]


def test_after_the_training_of_a_population_come_its_test_and_the_map(
    folder: RunFolder, population: PopulationTask
) -> None:
    told = after("fit", folder, population, [ROOT / "configs/population/demo.yaml"])
    test, fit = commands(told)
    assert test == ["dynamo", "test", "-c", str(folder.config)]
    assert fit[:4] == ["dynamo", "fit", "-c", str(ROOT / "configs/meta/demo.yaml")]
    assert fit[4:] == ["--model.init_args.population", str(folder.root / "population")]
    assert f"results: {folder.root}" in told


def test_a_population_that_was_not_written_is_not_named(folder: RunFolder, population: PopulationTask) -> None:
    (folder.root / "population").rmdir()
    assert commands(after("fit", folder, population)) == [["dynamo", "test", "-c", str(folder.config)]]


def test_after_the_training_of_a_map_come_its_test_and_the_analyses(folder: RunFolder, map_task: MetaTask) -> None:
    test, embedding, kinds, report = commands(after("fit", folder, map_task))
    assert test == ["dynamo", "test", "-c", str(folder.config)]
    assert embedding == ["dynamo", "analyze", "embedding", "--run", str(folder.root)]
    assert kinds == ["dynamo", "analyze"]
    assert report == ["dynamo", "report", str(folder.root)]


def test_after_a_test_it_is_not_tested_again(folder: RunFolder, map_task: MetaTask) -> None:
    told = after("test", folder, map_task)
    assert f"results: {folder.results}" in told
    assert [words[1] for words in commands(told)] == ["analyze", "analyze", "report"]
    assert [words[1] for words in commands(after("validate", folder, map_task))] == [
        "test",
        "analyze",
        "analyze",
        "report",
    ]


def test_a_module_of_somebody_else_is_told_its_place_alone(folder: RunFolder) -> None:
    assert after("test", folder, nn.Identity()) == f"results: {folder.results}"  # type: ignore[arg-type]


def test_a_stage_of_a_figure_names_no_next_step(
    folder: RunFolder, map_task: MetaTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STAGE, "1")
    assert after("test", folder, map_task) == f"results: {folder.results}"
    assert not after_analysis(["embedding"], [folder])


def test_what_has_been_asked_of_every_run_is_not_offered_again(tmp_path: Path) -> None:
    runs = [RunFolder(tmp_path / name) for name in ("a", "b")]
    runs[0].write_result("embedding", {})
    assert after_analysis(["embedding", "averaging"], runs).endswith("# KIND: embedding, averaging")
    runs[1].write_result("embedding", {})
    assert after_analysis(["embedding", "averaging"], runs).endswith("# KIND: averaging")
    assert not after_analysis(["embedding"], runs)


@pytest.mark.parametrize("name", ["demo", "demo_images", "imdb_gru_sizes", "cifar100_resnet_sizes"])
def test_a_population_of_the_repository_has_the_configuration_of_its_map(name: str) -> None:
    assert map_config([ROOT / f"configs/population/{name}.yaml"]).is_file()


def test_a_map_without_a_configuration_of_its_own_has_a_name_to_fill_in() -> None:
    assert map_config([ROOT / "configs/debug/tiny.yaml", Path("mine.yaml")]) == Path("configs/meta/NAME.yaml")


def test_predict_says_what_to_do_instead(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "-c", str(trained / "population/config.yaml")])
    assert stopped.value.code == 1
    assert "SyntheticSentimentDataModule has no items to predict on" in (said := capsys.readouterr().err)
    assert "dynamo test" in said
    assert "dynamo analyze" in said


def test_a_test_of_the_saved_configuration_goes_on_from_there(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that is named after the training is one that works."""
    main(["test", "-c", str(trained / "meta/config.yaml")])
    said = capsys.readouterr().out
    assert ["dynamo", "analyze", "embedding", "--run", str(trained / "meta")] in commands(said)
