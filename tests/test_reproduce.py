"""The stages of a figure: parsed, printed as plain commands, skipped where done, resumed where interrupted."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import dynamo.reproduce
from dynamo.analyze.command import ANALYSES, parse
from dynamo.cli import main
from dynamo.reproduce import analysed, run_of, stages
from dynamo.runs import RunFolder

ROOT = Path(__file__).resolve().parents[1]
FIGURES = sorted((ROOT / "configs/figures").glob("*.yaml"))
FIGURE = """
laptop:
  - fit -c configs/p.yaml
  - fit -c configs/p.yaml --seed_everything {seed} --run runs/m/seed={seed}
  - analyze embedding --run {seeds:runs/m/seed=*} --out runs/m
small:
  - reproduce other
  - test -c configs/p.yaml --ckpt_path last
"""


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run in a folder with a figure of its own; all succeed."""
    (tmp_path / "configs/figures").mkdir(parents=True)
    (tmp_path / "configs/p.yaml").write_text("run: runs/p\n", encoding="utf-8")
    (tmp_path / "configs/figures/fig.yaml").write_text(FIGURE, encoding="utf-8")
    (tmp_path / "configs/figures/other.yaml").write_text("small: [fit -c configs/p.yaml]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands: list[list[str]] = []

    def start(words: list[str], **_: object) -> SimpleNamespace:
        commands.append(words[3:])
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(subprocess, "Popen", start)
    return commands


@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.stem)
def test_real_figures_name_what_exists(figure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for scale in yaml.safe_load(figure.read_text(encoding="utf-8")):
        commands = stages(figure.stem, scale, seeds=2)
        trained = {str(run_of(words).root) for words in commands if words[0] == "fit"}
        for words in commands:
            assert "{" not in "".join(words)
            configs = [words[i + 1] for i, word in enumerate(words) if word == "-c"]
            assert [config for config in configs if not (ROOT / config).is_file()] == []
            if words[0] == "analyze":
                assert words[1] in {kind.name for kind in ANALYSES}
                analysis, asked = parse(next(kind for kind in ANALYSES if kind.name == words[1]), words[2:])
                assert {folder for name in analysis.folders for folder in getattr(analysis, name)} <= trained
                assert (asked["out"] or asked["run"][0]) == str(run_of(words).root)
                assert set(analysed(words)) <= trained
            elif words[0] == "test":
                assert str(run_of(words).root) in trained
            else:
                assert words[0] == "fit"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.stem)
def test_no_two_trainings_of_a_figure_share_a_folder(figure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for scale in yaml.safe_load(figure.read_text(encoding="utf-8")):
        fits = [words for words in stages(figure.stem, scale, seeds=2) if words[0] == "fit"]
        folders = [str(run_of(words).root) for words in fits]
        assert len(set(folders)) == len({shlex.join(words) for words in fits})


def test_stages_of_seeds_and_of_other_figures(ran: list[list[str]]) -> None:
    words = [shlex.join(command) for command in stages("fig", "laptop", 2)]
    assert words == [
        "fit -c configs/p.yaml",
        "fit -c configs/p.yaml --seed_everything 0 --run runs/m/seed=0",
        "fit -c configs/p.yaml --seed_everything 1 --run runs/m/seed=1",
        "analyze embedding --run runs/m/seed=0 runs/m/seed=1 --out runs/m",
    ]
    assert [command[0] for command in stages("fig", "small", 1)] == ["fit", "test"]


def test_a_dry_run_prints_plain_commands(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce", "fig", "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[1/3] dynamo fit -c configs/p.yaml"
    assert lines[1] == "[2/3] dynamo fit -c configs/p.yaml --seed_everything 0 --run runs/m/seed=0"
    assert ran == []


def test_done_is_skipped_and_interrupted_resumed(ran: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(Path("runs/p")).write_result("fit", {})
    interrupted = RunFolder(Path("runs/m/seed=0"))
    interrupted.root.mkdir(parents=True)
    interrupted.config.touch()
    main(["reproduce", "fig"])
    assert [shlex.join(command) for command in ran] == [
        "fit -c configs/p.yaml --seed_everything 0 --run runs/m/seed=0 --ckpt_path last",
        "analyze embedding --run runs/m/seed=0 --out runs/m",
    ]
    said = capsys.readouterr().out
    assert "done already; remove runs/p" in said
    assert "goes on where it stopped" in said


def test_options_of_data_and_trainer_go_to_every_training(ran: list[list[str]]) -> None:
    main(["reproduce", "fig", "--data.init_args.root", "elsewhere", "--seeds", "1", "--trainer.accelerator=cpu"])
    extra = "--data.init_args.root elsewhere --trainer.accelerator=cpu"
    assert [shlex.join(command) for command in ran] == [
        f"fit -c configs/p.yaml {extra}",
        f"fit -c configs/p.yaml --seed_everything 0 --run runs/m/seed=0 {extra}",
        "analyze embedding --run runs/m/seed=0 --out runs/m",
    ]


def test_a_training_begun_with_other_options_is_neither_skipped_nor_resumed(
    ran: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["reproduce", "fig", "--trainer.max_epochs", "1"])
    folder = RunFolder(Path("runs/p"))
    folder.config.touch()
    for finished in (False, True):
        if finished:
            folder.write_result("fit", {})
        with pytest.raises(SystemExit):
            main(["reproduce", "fig"])
        assert "runs/p was begun with --trainer.max_epochs 1, not with none" in capsys.readouterr().err
    ran.clear()
    main(["reproduce", "fig", "--trainer.max_epochs", "1"])
    assert "runs/p" not in [word for command in ran for word in command]


def test_an_analysis_is_repeated_for_other_runs_and_newer_weights(ran: list[list[str]]) -> None:
    for run in ("runs/p", "runs/m/seed=0", "runs/m/seed=1"):
        RunFolder(Path(run)).write_result("fit", {})
    about = {"runs": ["runs/m/seed=0"], "options": {"permutations": 10_000}}
    summary = RunFolder(Path("runs/m")).write_result("embedding_summary", about)
    main(["reproduce", "fig"])
    assert ran == []
    RunFolder(Path("runs/m")).write_result("embedding_summary", about | {"options": {"permutations": 10}})
    main(["reproduce", "fig"])
    assert [command.pop(0) for command in ran] == ["analyze"]
    ran.clear()
    RunFolder(Path("runs/m")).write_result("embedding_summary", about)
    main(["reproduce", "fig", "--seeds", "2"])
    assert [command[0] for command in ran] == ["analyze"]
    last = RunFolder(Path("runs/m/seed=0")).checkpoint("last")
    last.parent.mkdir(parents=True)
    last.touch()
    os.utime(last, (summary.stat().st_mtime + 5,) * 2)
    main(["reproduce", "fig"])
    assert [command[0] for command in ran] == ["analyze"] * 2


def test_a_stage_that_fails_stops_the_rest(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(words: list[str], **_: object) -> SimpleNamespace:
        ran.append(words[3:])
        return SimpleNamespace(wait=lambda: 3)

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", "fig"])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "`dynamo fit -c configs/p.yaml` ended with exit code 3" in said
    assert len(ran) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["colours"], "no figure 'colours'; choose one of fig, other"),
        (["fig", "--scale", "huge"], "no scale 'huge', only laptop, small"),
        (["fig", "--seeds", "0"], "--seeds is 0"),
        (["fig", "--seed", "2"], "no option '--seed'"),
        (["fig", "--model.init_args.lr", "1"], "no option '--model.init_args.lr'; besides its own it takes --data.*"),
        (["fig", "fig3_tasks"], "no option 'fig3_tasks'"),
        (["fig", "-1"], "no option '-1'"),
    ],
)
def test_wrong_words(ran: list[list[str]], words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reproduce", *words])
    assert said in capsys.readouterr().err


def test_it_works_outside_the_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert dynamo.reproduce.home() == ROOT
    words = stages("demo", "laptop", 1)[0]
    assert Path(words[words.index("-c") + 1]).is_file()
    assert run_of(words).root == Path("runs/demo/population")


def test_the_closing_words_leave_out_what_has_no_mean_and_what_is_too_much(
    ran: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"mean": 1.5, "std": None, "values": [1.5]}
    unknown = {"mean": None, "std": None, "values": [None]}
    many = {f"n{i}": known for i in range(40)}
    content = {"runs": ["runs/m/seed=0"], "options": {"permutations": 10_000}, "first": known, "lost": unknown}
    RunFolder(Path("runs/m")).write_result("embedding_summary", content | {"deep": many})
    main(["reproduce", "fig"])
    said = capsys.readouterr().out
    assert "first                            1.5" in said
    assert "lost" not in said
    assert "... and 17 more in runs/m/results/embedding_summary.json" in said
