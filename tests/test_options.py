"""A complaint keeps the culprit and loses the rest."""

import pytest

from dynamo.cli import main
from dynamo.options import plain

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
