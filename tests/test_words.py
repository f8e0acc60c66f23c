"""What somebody typed behind `dynamo`: is it a command, and is enough said?"""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamo.cli import main
from dynamo.words import configurations


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["fitt"], "choose one of fit, validate, test, predict, analyze, report, reproduce"),
        (["fit"], "dynamo fit -c configs/"),
    ],
)
def test_a_command_that_is_none_or_says_nothing_is_refused_with_a_remedy(
    words: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert remedy in capsys.readouterr().err


def test_reproduce_alone_lists_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce"])
    said = capsys.readouterr().out
    assert "  demo                       the whole road on built-in synthetic reviews" in said
    assert all(f"  {file.stem} " in said for file in Path(__file__).parents[1].glob("configs/figures/*.yaml"))


def test_configurations_are_files_not_texts() -> None:
    words = ["fit", "-c", "a.yaml", "--config=b.yaml", "-c", "{x: 1}", "--run", "c.yaml"]
    assert configurations(words) == [Path("a.yaml"), Path("b.yaml")]
