"""The command writes one page, the same for the same run, in the place of an older one and of nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import dynamo.report.maps
from dynamo.cli import main
from dynamo.runs import RunFolder

Reported = Callable[..., str]


def test_the_same_run_is_the_same_page(
    attractors: RunFolder, reported: Reported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = reported(str(attractors.root))
    said = capsys.readouterr().out
    assert f"report: {attractors.root}/report.html" in said
    assert f"open it in a browser: {(attractors.root / 'report.html').as_uri()}" in said
    shutil.copytree(attractors.root, tmp_path / "elsewhere/seed=0")
    assert reported(str(tmp_path / "elsewhere/seed=0"), "--out", str(tmp_path / "new/page.html")) == first
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["page.html"]
    assert reported(str(attractors.root)) == first  # in the place of the one that is there


def test_a_population_has_no_map(trained: Path, reported: Reported, tmp_path: Path) -> None:
    page = reported(str(trained / "population"), "--out", str(tmp_path / "page.html"))
    assert 'id="data"' not in page
    assert page.count('<th scope="row">100%-') == 4


def test_without_data_the_page_says_so(run: RunFolder, reported: Reported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamo.report.maps, "courses_of", lambda run: "its data is not there (aclImdb is missing)")
    assert '"missing": "its data is not there (aclImdb is missing)"' in reported(str(run.root))


def test_what_is_no_report_is_not_written_over(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    thesis = run.root / "thesis.html"
    thesis.write_text("<h1>Thesis</h1>", encoding="utf-8")
    for out in (thesis, run.root):
        with pytest.raises(SystemExit):
            main(["report", str(run.root), "--out", str(out)])
        assert "Choose another file with --out." in capsys.readouterr().err.splitlines()[-1]
    assert thesis.read_text(encoding="utf-8") == "<h1>Thesis</h1>"


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        ("results/fit.json", "the training has not finished; go on with"),
        ("checkpoints/last.ckpt", "last.ckpt is missing"),
        ("config.yaml", "is no run: config.yaml is missing"),
    ],
)
def test_what_is_missing_is_one_line(
    run: RunFolder, harm: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.root / harm).unlink()
    with pytest.raises(SystemExit):
        main(["report", str(run.root)])
    assert complaint in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (run.root / "report.html").exists()


def test_a_damaged_result_leaves_the_page_of_before(
    run: RunFolder, reported: Reported, capsys: pytest.CaptureFixture[str]
) -> None:
    before = reported(str(run.root))
    (run.results / "similarity.json").write_text("{", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["report", str(run.root)])
    assert "similarity.json is damaged" in capsys.readouterr().err
    assert (run.root / "report.html").read_text(encoding="utf-8") == before
