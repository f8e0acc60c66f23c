"""A complaint keeps the culprit and loses the rest; a list takes nothing over from the one below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynamo.cli import main
from dynamo.options import PlainParser, plain

MESSAGE = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'pytorch_lightning.core.module.LightningModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'dynamo.population.PopulationTask':
        Option 'lrr' is not accepted
    - Expected a <class 'NoneType'>
  Given value type: <class 'dict'>
  Given value: {'init_args': {'lrr': 3}}"""


def test_the_culprit_is_kept() -> None:
    assert plain(MESSAGE) == (
        "Parser key \"model\": Problem with given class_path 'dynamo.population.PopulationTask': "
        "Option 'lrr' is not accepted"
    )
    assert plain("Subcommand 'fit' does not accept option 'modell'") == (
        "Subcommand 'fit' does not accept option 'modell'"
    )


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["fit", "-c", "configs/population/demo.yaml", "--model.init_args.lrr=3"], "'lrr' is not "),
        (["fit", "-c", "configs/population/demo.yaml", "--trainer.max_epochs=many"], "many"),
        (["fit", "-c", "configs/population/nowhere.yaml"], "nowhere.yaml"),
        (["fitt"], "fitt"),
    ],
)
def test_one_line_with_the_culprit_and_the_way_to_the_remedy(
    words: list[str], culprit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert said.count("\n") == 0
    assert said.startswith("dynamo: error: ")
    assert culprit in said
    assert said.endswith("--help")


@dataclass
class Item:
    """Of a list that a configuration may set."""

    name: str
    size: int = 1
    sizes: list[int] | None = None


class Holder:
    """What a configuration builds."""

    def __init__(self, parts: list[Item], depth: int = 1) -> None:
        self.parts, self.depth = parts, depth


def read(tmp_path: Path, *texts: str, words: Sequence[str] = ()) -> tuple[list[Item], int]:
    """The options after these configurations, one over the other, and these words."""
    parser = PlainParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(Holder, "holder")
    files = [tmp_path / f"{number}.yaml" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    found = parser.parse_args([*(word for file in files for word in ("--config", str(file))), *words])
    options = found.holder.init_args
    return [Item(**vars(item)) for item in options.parts], options.depth


BELOW = f"""
holder:
  class_path: {__name__}.Holder
  init_args:
    parts: [{{name: a, size: 5, sizes: [1, 2]}}, {{name: b, size: 6}}]
    depth: 3
"""


def test_a_list_replaces_a_list_of_its_length_too(tmp_path: Path) -> None:
    above = "holder: {init_args: {parts: [{name: c}, {name: d, size: 2}]}}"
    assert read(tmp_path, BELOW, above) == ([Item("c"), Item("d", 2)], 3)
    assert read(tmp_path, BELOW, "holder: {init_args: {parts: [{name: c}]}}") == ([Item("c")], 3)
    both = [Item("a", 5, [1, 2]), Item("b", 6)]
    assert read(tmp_path, BELOW, "holder: {init_args: {depth: 2}}") == (both, 2)


def test_the_command_line_replaces_a_list_or_adds_to_it(tmp_path: Path) -> None:
    replaced = ["--holder.parts", '[{"name": "c"}, {"name": "d"}]']
    assert read(tmp_path, BELOW, words=replaced) == ([Item("c"), Item("d")], 3)
    added = ["--holder.parts+", '{"name": "c"}']
    assert read(tmp_path, BELOW, words=added) == ([Item("a", 5, [1, 2]), Item("b", 6), Item("c")], 3)
