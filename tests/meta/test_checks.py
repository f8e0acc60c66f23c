"""What does not fit together is refused, by name."""

import pytest

from dynamo.meta.checks import check_data, check_options, check_vocabulary_size
from dynamo.population import Member, Population, PopulationError, RecurrentBundle

GOOD: dict[str, int | float | None] = {
    "dimensions": 1,
    "output_weight": 0.0,
    "burn_in": 0,
    "members_per_step": None,
    "calibration_items": 2,
}


@pytest.fixture
def population() -> Population:
    bundle = RecurrentBundle(1, "gru", vocab_size=7, embedding_size=2, hidden_size=3, classes=2)
    return Population([bundle], [[Member("a", "g", "imdb")]], fingerprint={"vocabulary": "1234567890"})


@pytest.mark.parametrize(
    ("option", "value"),
    [("dimensions", 0), ("output_weight", -0.1), ("burn_in", -1), ("members_per_step", 0), ("calibration_items", 1)],
)
def test_an_option_out_of_range_is_named(option: str, value: float) -> None:
    check_options(**GOOD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"{option}.* is {value}"):
        check_options(**(GOOD | {option: value}))  # type: ignore[arg-type]


def test_a_vocabulary_of_another_size_is_refused(population: Population) -> None:
    check_vocabulary_size(population, 7)
    with pytest.raises(PopulationError, match="'a' reads a vocabulary of 7, the data module's has 8"):
        check_vocabulary_size(population, 8)


def test_another_vocabulary_of_the_same_size_is_refused(population: Population) -> None:
    check_data(population, {"vocabulary": "1234567890", "data": "x"}, ["imdb"])
    check_data(population, {}, ["imdb"])  # a data module that does not say
    with pytest.raises(PopulationError, match="vocabulary 12345678, the data module has 09876543"):
        check_data(population, {"vocabulary": "0987654321"}, ["imdb"])


def test_a_missing_task_is_named(population: Population) -> None:
    with pytest.raises(PopulationError, match="task 'imdb', the data module only ag_news"):
        check_data(population, {}, ["ag_news"])
