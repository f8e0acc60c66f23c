"""Commands that make a run again have its options; hashes, seeds and versions are those that it noted."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dynamo.analyze.averaging import Averaging
from dynamo.report import provenance
from dynamo.report.maps import MapRun
from dynamo.reproduce import OVERRIDES
from dynamo.runs import RunFolder, read_config
from dynamo.types import UserError


def renamed(run: RunFolder, name: str) -> RunFolder:
    config = read_config(run.config) | {"run": name}
    run.config.write_text(yaml.safe_dump(config), encoding="utf-8")
    return run


def test_a_run_of_a_figure_is_made_again_by_the_figure(run: RunFolder) -> None:
    renamed(run, "runs/demo/seed=0")
    assert not any(command.startswith("dynamo reproduce") for command in provenance.commands([run]))
    run.write_result(OVERRIDES, {"options": ["--trainer.max_epochs", "3"]})
    assert provenance.commands([run])[0] == "dynamo reproduce demo --trainer.max_epochs 3"
    renamed(run, "runs/elsewhere/seed=0")
    assert provenance.commands([run])[0].startswith("dynamo fit -c ")


def test_several_seeds_are_asked_for(run: RunFolder, tmp_path: Path) -> None:
    renamed(run, "runs/demo/seed=0").write_result(OVERRIDES, {"options": []})
    other = RunFolder(tmp_path / "seed=1")
    shutil.copytree(run.root, other.root)
    renamed(other, "runs/demo/seed=1")
    for one, kind in ((run, "embedding"), (other, "embedding"), (other, "averaging")):
        one.write_result(kind, {"options": {}})
    assert provenance.commands([run, other])[-2:] == [
        "dynamo analyze embedding --run runs/demo/seed=0 runs/demo/seed=1",
        "dynamo analyze averaging --run runs/demo/seed=1",
    ]
    assert provenance.commands([run, other])[0] == "dynamo reproduce demo --seeds 2"
    assert provenance.difference([run, other]) == ["run"]


def test_analyses_are_asked_again_with_their_options_and_after_what_they_need(run: RunFolder) -> None:
    renamed(run, "runs/a b/seed=0")
    run.write_result("averaging", {"options": Averaging(subset=["it's"], steps=3).options()})
    run.write_result("accuracy_map", {"options": {}})
    first, second = provenance.commands([run])[-2:]
    assert first == "dynamo analyze accuracy_map --run 'runs/a b/seed=0'"
    words = shlex.split(second)
    assert words[:5] == ["dynamo", "analyze", "averaging", "--run", "runs/a b/seed=0"]
    assert words[5:] == ["--subset", '["it\'s"]', "--steps", "3"]


def test_the_configuration_can_be_used_again(run: RunFolder) -> None:
    found = yaml.safe_load(provenance.configuration(run))
    assert found["model"]["init_args"]["dimensions"] == 16
    assert "callbacks" not in found["trainer"]  # null
    assert provenance.population_configuration(run) is not None


def test_hashes_are_those_of_the_checkpoint(map_run: MapRun) -> None:
    found = {row[0].text: row[1].text for row in provenance.hash_table(map_run.identity).rows}
    assert found["weights of the members"] == map_run.identity["population"]
    assert set(found) == {"weights of the members", "vocabulary", "data set"}


def test_stages_have_the_versions_that_they_noted(run: RunFolder) -> None:
    table = provenance.stage_table([run])
    fit, test, now = ({n: c.text for n, c in zip(table.columns, row, strict=True)} for row in table.rows)
    assert (fit["stage"], test["stage"], now["stage"]) == ("seed=0, fit", "seed=0, test", "this report")
    assert fit["torch"] == test["torch"] == now["torch"] == str(torch.__version__)
    assert fit["finished"].endswith("UTC")
    assert (fit["steps"], test["steps"]) == ("4", "–")
    old = run.read_result("fit")
    for name in ("finished", "python", "dynamo"):
        del old[name]
    run.write_result("fit", old)
    first = provenance.stage_table([run]).rows[0]
    assert [cell.text for cell in first].count(provenance.NOT_KNOWN) == 3


def test_seeds(run: RunFolder) -> None:
    seeds = {row[0].text: row[1].text for row in provenance.seed_table([run]).rows}
    assert seeds["seed=0: seed_everything"] == "0"
    assert "seed=0: data.init_args.split_seed" in seeds


@pytest.mark.parametrize("content", ["{}", '{"seconds": "long"}'])
def test_a_damaged_stage_is_one_line(run: RunFolder, content: str) -> None:
    (run.results / "fit.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"fit\.json is damaged"):
        provenance.stage_table([run])
