"""Does every kind of network get a meta-model that can emulate it, and trains with it?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from datamodules import TensorDataModule
from dynamo.analysis import emulation
from dynamo.meta import (
    MetaTask,
    PerceptronMetaModel,
    RecurrentMetaModel,
    ResidualMetaModel,
    TransformerMetaModel,
    matching_network,
)
from dynamo.population import Population, PopulationError, observe

ITEMS, T, F = 60, 6, 3
NUMBERS = torch.Generator().manual_seed(0)
SIGNALS = torch.randn(ITEMS, T, F, generator=NUMBERS)
VECTORS = torch.randn(ITEMS, F, generator=NUMBERS)
WORDS = torch.randint(1, 9, (ITEMS, T), generator=NUMBERS)
IMAGES = torch.randn(ITEMS, 2, 12, 12, generator=NUMBERS)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below, self.above = nn.GRU(F, 5, batch_first=True), nn.GRU(5, 4, batch_first=True)
        self.readout = nn.Linear(4, 2)

    def forward(self, signals: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.above(self.below(signals)[0])[0])
        return logits


class Summing(nn.Module):
    """Reads words without any recurrent layer; two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.low, self.high = nn.Embedding(9, 4), nn.Linear(4, 6), nn.Linear(6, 5)
        self.readout = nn.Linear(5, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.high(self.low(self.words(tokens).cumsum(1)).tanh()).tanh())
        return logits


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 5, 3, 2, 1), nn.Conv2d(5, 6, 3, 2, 1)
        self.readout = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.two(self.one(images).relu()).relu().mean((2, 3)))
        return logits


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(F, 7), nn.Tanh(), nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 2))


Case = tuple[Callable[[], nn.Module], dict[str, Any], Tensor, type[nn.Module]]
CASES: dict[str, Case] = {
    "signals": (Recurrent, {"observe": observe("below", "above"), "read_out": "readout"}, SIGNALS, RecurrentMetaModel),
    "words": (Summing, {"observe": observe("low", "high"), "read_out": lambda m, h: m.readout(h.tanh())}, WORDS,
              TransformerMetaModel),
    "one stage": (Summing, {"observe": observe("high")}, WORDS, RecurrentMetaModel),
    "images": (Pictures, {"observe": observe("one", "two")}, IMAGES, ResidualMetaModel),
    "vectors": (perceptron, {"observe": observe("1", "3"), "read_out": "4"}, VECTORS, PerceptronMetaModel),
    "bare": (lambda: nn.LSTM(F, 4, batch_first=True), {}, SIGNALS, RecurrentMetaModel),
}  # fmt: skip


def population_of(case: Case, count: int = 3) -> Population:
    make, options, inputs, _ = case
    networks = []
    for seed in range(count):
        torch.manual_seed(seed)
        networks.append(make())
    return Population.from_modules(networks, **{"example": inputs[:3], **options})


@pytest.mark.parametrize("name", CASES)
def test_it_reads_what_the_members_read_and_has_their_stages(name: str) -> None:
    population = population_of(CASES[name])
    (bundle,) = population.bundles
    network = matching_network(population, 9 if bundle.reads == "tokens" else 0, {"task": bundle.classes}, 2)
    inputs = CASES[name][2]
    assert type(network) is CASES[name][3]
    assert network.reads == bundle.reads
    theta = torch.randn(4, 2)
    found = network(theta, inputs[:5], "task")
    data = TensorDataModule(inputs)
    data.setup()
    (original,) = population.run(data.calibration_batch(5))
    assert original is not None
    for ours, theirs in zip(found.hidden, original.hidden, strict=True):
        if bundle.reads in ("tokens", "signals"):
            assert ours.shape[1:3] == theirs.shape[1:3] == (5, T)
        else:
            assert ours.shape[3:] == theirs.shape[3:]  # positions
    lengths = torch.full((5,), T if bundle.reads in ("tokens", "signals") else 1)
    answers = network.answers(theta, network.prepare(inputs[:5]), lengths, "task")
    last = found.output[:, :, -1] if found.output.dim() == 4 else found.output
    torch.testing.assert_close(answers, last)


@pytest.mark.parametrize("name", CASES)
def test_theta_and_nothing_else_distinguishes_the_points(name: str) -> None:
    population = population_of(CASES[name])
    (bundle,) = population.bundles
    network = matching_network(population, 9 if bundle.reads == "tokens" else 0, {"task": bundle.classes}, 2)
    inputs = CASES[name][2][:4]
    found = network(torch.tensor([[0.3, -1.0], [2.0, 0.5], [0.3, -1.0]]), inputs, "task")
    for stage in found.hidden:
        torch.testing.assert_close(stage[0], stage[2])
        assert (stage[0] - stage[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_a_map_is_trained_with_it(name: str) -> None:
    """The whole road: after some steps the emulators explain more than the members' mean states do."""
    population, inputs = population_of(CASES[name]), CASES[name][2]
    silent = not population.bundles[0].classes
    data = TensorDataModule(inputs, None if silent else torch.arange(ITEMS) % 2, batch_size=24)
    task = MetaTask(population, data.vocab_size, dimensions=2, output_weight=0.0 if silent else 1.0, lr=1e-2)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(max_steps=40, enable_model_summary=False, **options)  # type: ignore[arg-type]
    trainer.fit(task, data)
    found = emulation(population, task.eval().compare, data.batches("test"), 0)
    assert float(found.variance_explained.mean()) > 0.15
    assert bool(found.agreement.isnan().all()) == silent
    assert bool(found.kl.isnan().all()) == silent
    assert silent or math.isfinite(float(found.kl.mean()))


def test_members_that_no_meta_model_fits_are_named() -> None:
    one = Population.from_modules([Summing()], observe("high"), names=["one"])
    two = Population.from_modules([Summing()], observe("low", "high"), names=["two"])
    both = Population([*one.bundles, *two.bundles], [*one.bundle_members, *two.bundle_members])
    with pytest.raises(PopulationError, match=r"emulates both 'one' \(reads tokens, 1 stage\) and 'two' .*2 stages"):
        matching_network(both, 9, {"task": 3}, 2)


def test_a_network_that_does_not_fit_is_refused_with_the_remedy() -> None:
    population = population_of(CASES["signals"])
    with pytest.raises(PopulationError, match="has 2 stages of states, this RecurrentMetaModel has 1; leave"):
        MetaTask(population, network=lambda v, c, d: RecurrentMetaModel(v, c, d, features=F))
    pictures = population_of(CASES["images"])
    with pytest.raises(PopulationError, match=r"have the positions \[\(6, 6\), \(3, 3\)\], those of this Residual"):
        MetaTask(pictures, network=lambda v, c, d: ResidualMetaModel(v, c, d, [4, 4], [1, 1], channels=2))
    vectors = population_of(CASES["vectors"])
    with pytest.raises(PopulationError, match="reads vectors, a RecurrentMetaModel reads signals"):
        MetaTask(vectors, network=lambda v, c, d: RecurrentMetaModel(v, c, d, features=F))


def test_networks_without_answers_are_compared_by_their_states() -> None:
    population = population_of(CASES["bare"])
    with pytest.raises(PopulationError, match=r"has states and no answers to compare; set output_weight"):
        MetaTask(population)
    assert MetaTask(population, output_weight=0.0).network.classes == {"task": 0}
