"""What does not fit together is refused, by name."""

import pytest
import torch
from torch import Tensor, nn

from dynamo.meta.checks import check_data, check_inputs, check_options, check_readouts
from dynamo.population import Member, Population, PopulationError, RecurrentBundle
from dynamo.types import TaskBatch

GOOD: dict[str, int | float | str | None] = {
    "dimensions": 1,
    "alignment": "affine",
    "distance": "l2",
    "output_weight": 0.0,
    "burn_in": 0,
    "members_per_step": None,
    "calibration_items": 2,
}

IMDB = {"imdb": ("negative", "positive")}
WORDS = {"imdb": TaskBatch(torch.ones(2, 3, dtype=torch.int64), torch.zeros(2), torch.ones(2))}


@pytest.fixture
def population() -> Population:
    bundle = RecurrentBundle(1, "gru", vocab_size=7, embedding_size=2, hidden_size=3, classes=2)
    return Population([bundle], [[Member("a", "g", "imdb")]], fingerprint={"vocabulary": "1234567890"})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("dimensions", 0),
        ("dimensions", 2.5),
        ("alignment", "afine"),
        ("distance", "l3"),
        ("output_weight", -0.1),
        ("burn_in", -1),
        ("members_per_step", 0),
        ("calibration_items", 1),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: float | str) -> None:
    check_options(**GOOD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"{option}.* is '?{value}'?; "):
        check_options(**(GOOD | {option: value}))  # type: ignore[arg-type]


def test_a_vocabulary_of_another_size_is_refused(population: Population) -> None:
    check_inputs(population, 7)
    with pytest.raises(PopulationError, match="'a' reads a vocabulary of 7, the data module's has 8"):
        check_inputs(population, 8)


def test_another_vocabulary_of_the_same_size_is_refused(population: Population) -> None:
    check_data(population, {"vocabulary": "1234567890", "data": "x"}, IMDB, WORDS)
    check_data(population, {}, IMDB, WORDS)  # a data module that does not say
    with pytest.raises(PopulationError, match="vocabulary 12345678, the data module has 09876543"):
        check_data(population, {"vocabulary": "0987654321"}, IMDB, WORDS)


def test_a_missing_task_is_named(population: Population) -> None:
    with pytest.raises(PopulationError, match="task 'imdb', the data module only ag_news"):
        check_data(population, {}, {"ag_news": ("world", "sports")}, {})


def test_labels_that_the_networks_do_not_know_are_refused(population: Population) -> None:
    with pytest.raises(
        PopulationError, match="'a' tells 2 classes apart, the labels of the data module 3; give labels"
    ):
        check_data(population, {}, {"imdb": ("bad", "good", "new")}, WORDS)


def test_items_of_another_width_are_refused() -> None:
    population = Population.from_modules([nn.LSTM(3, 4, batch_first=True)], example=torch.randn(2, 5, 3))
    items = TaskBatch(torch.randn(2, 5, 4), torch.zeros(2), torch.full((2,), 5))
    with pytest.raises(
        PopulationError, match=r"'LSTM-0' reads signals of 3 numbers, the data module has signals \[2, 5, 4\]"
    ):
        check_data(population, {}, {"task": ()}, {"task": items})


class Table(nn.Module):
    """A network of somebody else, which says nowhere how many words it knows."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 3)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.words(tokens).cumsum(1)
        return hidden, hidden[..., :2]


def test_a_network_that_does_not_say_what_it_can_read_is_tried() -> None:
    population = Population.from_modules([Table(9), Table(7)], names=["nine", "seven"])
    check_inputs(population, 7)
    with pytest.raises(PopulationError, match="'seven' cannot read the last of the data module's 8 words; set vocab"):
        check_inputs(population, 8)


def test_without_outputs_there_has_to_be_a_readout(population: Population) -> None:
    mute = Population.from_modules([Table(7)])
    heard = Population.from_modules([Table(7)], read_out=lambda module, hidden: hidden[..., :2])
    for fitting, weight in ((population, 0.0), (heard, 0.0), (mute, 1.0), (mute, 0.1)):
        check_readouts(fitting, weight)
    with pytest.raises(PopulationError, match="'Table-0' is not known; give read_out to Population"):
        check_readouts(mute, 0.0)
