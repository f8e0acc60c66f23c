"""From the command to what stands on disk: the real `main([...])` on built-in data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dynamo
from dynamo.cli import main
from dynamo.population import Population

ROOT = Path(__file__).resolve().parents[1]
Commands = dict[str, list[str]]
PNG = b"\x89PNG\r\n\x1a\n"


def fails(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that fails says on stderr: short, and no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code not in (0, None)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error that the user can mend (Lightning reports the seed before it)."""
    lines = [line for line in fails(words, capsys).splitlines() if line.startswith("dynamo: ")]
    (line,) = lines
    return line


def weights(run: Path, name: str = "last") -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return state


def tags(run: Path) -> dict[str, Any]:
    found = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    content: dict[str, Any] = found.Tags()
    return content


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_a_run_holds_what_it_promises(trained: Path) -> None:
    for kind in ("population", "meta"):
        run = trained / kind
        assert {file.name for file in (run / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
        fit, test = read(run / "results/fit.json"), read(run / "results/test.json")
        assert (fit["epochs"], fit["steps"]) == (2, 4)
        assert "val/loss" in fit["metrics"]
        assert any(name.startswith("test/") for name in test["metrics"])
        assert not list(run.rglob("*.tmp"))
    population = Population.load(trained / "population/population")
    assert len(population) == 12
    assert all(member.test_accuracy is not None and member.epoch == 2 for member in population.members)


def test_a_meta_run_holds_figures_and_fidelity(trained: Path) -> None:
    run = trained / "meta"
    for name in ("fidelity_val", "fidelity_test", "map_pca"):
        picture = (run / "figures" / f"{name}.png").read_bytes()
        assert picture.startswith(PNG)
        assert len(picture) > 10_000
    for split in ("val", "test"):
        table = read(run / f"results/fidelity_{split}.json")
        members = {row["name"]: row for row in table["members"]}
        assert list(members) == [m.name for m in Population.load(trained / "population/population").members]
        assert members[table["worst"]]["agreement"] == min(row["agreement"] for row in members.values())
        assert table["mean"]["kl"] == pytest.approx(sum(row["kl"] for row in members.values()) / 12)


def test_the_event_files_hold_the_tags(trained: Path) -> None:
    meta, population = tags(trained / "meta"), tags(trained / "population")
    member = Population.load(trained / "population/population").members[-1]
    assert {"train/loss", "train/hidden", "val/loss", f"val/agreement/{member.group}"} <= set(meta["scalars"])
    assert {"map/silhouette", "map/dims_95", "cost/embedding_pca", "test/agreement"} <= set(meta["scalars"])
    assert {"map/1_plane", "map/4_fidelity", "map/5_fidelity_test"} <= set(meta["images"])
    assert {f"val/accuracy/{member.group}", f"val_members/accuracy/{member.name}"} <= set(population["scalars"])
    (metadata,) = (trained / "meta").glob("*/theta/metadata.tsv")
    header, *rows = metadata.read_text(encoding="utf-8").splitlines()
    assert header.split("\t")[:2] == ["name", "group"]
    assert [row.split("\t")[0] for row in rows[:2]] == ["100%-0", "100%-1"]
    assert len((metadata.parent / "tensors.tsv").read_text(encoding="utf-8").splitlines()) == 12
    assert "theta" in (trained / "meta/projector_config.pbtxt").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["population", "meta"])
def test_last_is_what_training_ended_with(trained: Path, kind: str) -> None:
    """Lightning's own writes `last` only together with a better `best`."""
    saved = torch.load(trained / kind / "checkpoints/last.ckpt", weights_only=True)
    assert (saved["epoch"], saved["global_step"]) == (2, 4)  # two epochs are over
    if kind == "population":
        (bundle,) = Population.load(trained / "population/population").bundles
        for name, tensor in bundle.state_dict().items():
            assert torch.equal(saved["state_dict"][f"bundles.0.{name}"], tensor)


def test_the_saved_config_serves_fit_test_and_reloads_to_the_same_numbers(trained: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    config = str(trained / "meta/config.yaml")
    main(["fit", "-c", config, "--run", str(again)])
    assert all(
        torch.equal(a, b) for a, b in zip(weights(again).values(), weights(trained / "meta").values(), strict=True)
    )
    before = (again / "config.yaml").read_bytes()
    main(["test", "-c", str(again / "config.yaml"), "--ckpt_path", "last"])
    tested = read(again / "results/test.json")["metrics"]
    assert tested == read(trained / "meta/results/test.json")["metrics"]
    main(["test", "-c", str(again / "config.yaml"), "--ckpt_path", "best"])
    main(["validate", "-c", str(again / "config.yaml")])
    main(["analyze", "embedding", "--run", str(again), "--permutations", "20"])
    assert (again / "config.yaml").read_bytes() == before


def test_testing_best_leaves_the_accuracies_of_the_population_alone(
    trained: Path, commands: Commands, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "population", run)
    manifest = (run / "population/manifest.json").read_bytes()
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    for tensor in state["state_dict"].values():
        tensor.zero_()
    torch.save(state, run / "checkpoints/best.ckpt")
    main(["test", *commands["population"], "--run", str(run), "--ckpt_path", "best"])
    assert (run / "population/manifest.json").read_bytes() == manifest


def test_a_run_folder_is_never_overwritten_silently(
    trained: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in (trained / "population").rglob("*") if file.is_file()}
    said = one_line(["fit", *commands["population"], "--run", str(trained / "population")], capsys)
    assert "--ckpt_path last" in said
    assert "--run" in said
    assert before == {file: file.read_bytes() for file in (trained / "population").rglob("*") if file.is_file()}


def test_going_on_with_a_finished_run_changes_nothing(trained: Path, commands: Commands, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "population", run)
    manifest = (run / "population/manifest.json").read_bytes()
    main(["fit", *commands["population"], "--run", str(run), "--ckpt_path", "last"])
    assert (run / "population/manifest.json").read_bytes() == manifest
    assert (run / "results/test.json").is_file()


def test_going_on_takes_away_the_numbers_of_older_weights(trained: Path, commands: Commands, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "population", run)
    main(["fit", *commands["population"], "--run", str(run), "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    assert not (run / "results/test.json").exists()
    assert read(run / "results/fit.json")["steps"] == 6
    assert {(m.epoch, m.test_accuracy) for m in Population.load(run / "population").members} == {(3, None)}


def test_last_where_nothing_is_yet_begins_and_says_so(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", *commands["population"], "--run", str(tmp_path / "new"), "--ckpt_path", "last"])
    assert "training starts at the beginning" in capsys.readouterr().out
    assert read(tmp_path / "new/results/fit.json")["steps"] == 4


def test_a_checkpoint_does_not_override_the_command_line(trained: Path, commands: Commands, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "population", run)
    words = [*commands["population"], "--run", str(run), "--ckpt_path", str(run / "checkpoints/last.ckpt")]
    main(["fit", *words, "--model.init_args.lr", "0.25", "--trainer.max_epochs", "3"])
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["lr"] == 0.25


def test_the_terminal_says_where_to_look(trained: Path, commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    main(["test", *commands["population"], "--run", str(trained / "population")])
    assert f"results: {trained}/population/results" in capsys.readouterr().out


def test_help_and_version_need_no_parser(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        main(words)
        assert "dynamo reproduce demo" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out == f"dynamo {dynamo.__version__}\n"


def test_the_package_is_a_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "dynamo", "--version"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.returncode) == (f"dynamo {dynamo.__version__}\n", 0), run.stderr
