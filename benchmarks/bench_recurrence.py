"""How much faster does a population train in one recurrence than as separate models?

    make bench
    python -m pytest -q benchmarks/bench_recurrence.py              # the table alone: a few minutes
    DYNAMO_BENCH_ROUNDS=3 python -m pytest -q benchmarks/bench_recurrence.py

One training step: forward, backward, Adam. Separate models (each `torch.nn`'s layer with its own Adam) and the
population take turns within one run, so that whatever else the machine does meets both; the ratio is that of
the medians, on all cores; "best" is that of the fastest turns, the steadier one on a busy machine. "limit" is the
share of the population's time that its matrix products alone would take at the speed of a large square product,
measured in the same turns: 100% cannot be beaten.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as nnf
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.optim import Adam

from dynamo.population.recurrence import GATES, Kind, unroll
from dynamo.population.recurrent import RecurrentBundle, RecurrentClassifier
from dynamo.types import TaskBatch

ROUNDS = int(os.environ.get("DYNAMO_BENCH_ROUNDS", "7"))
VOCABULARY, CLASSES = 4_000, 2
LAYERS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
NAMES = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")

Step = Callable[[], None]


class Size(NamedTuple):
    """N members, B items, T steps, E = H units."""

    n: int
    b: int
    t: int
    h: int

    def flops(self, kind: Kind) -> float:
        """Forward 2 per weight, item and step, for the input and the recurrent product; backward twice that."""
        return 3 * 2 * self.n * self.b * self.t * GATES[kind] * self.h * (self.h + self.h)


GRU_SIZES = (
    Size(20, 32, 64, 64),
    Size(16, 64, 80, 64),
    Size(16, 32, 80, 128),
    Size(8, 32, 80, 256),
    Size(1, 32, 64, 64),
)
CASES: list[tuple[Kind, Size]] = [
    *(("gru", size) for size in GRU_SIZES),
    ("gru", Size(1, 32, 80, 256)),
    ("lstm", Size(20, 32, 64, 64)),
    ("lstm", Size(1, 32, 64, 64)),
    ("rnn", Size(20, 32, 64, 64)),
    ("rnn", Size(1, 32, 64, 64)),
]
HEADER = (
    f"{'training step':<16}{'N':>3}{'B':>4}{'T':>4}{'H':>5}"
    f"{'separate':>11}{'population':>12}{'ratio':>7}{'best':>7}{'limit':>7}"
)


def layer(kind: Kind, size: Size) -> tuple[Step, Step]:
    """The recurrent layer alone, on float inputs that want a gradient too."""
    modules = [LAYERS[kind](size.h, size.h) for _ in range(size.n)]
    optimizers = [Adam(module.parameters()) for module in modules]
    inputs = torch.randn(size.n, size.t, size.b, size.h, requires_grad=True)
    own_inputs = [x.clone().requires_grad_() for x in inputs.detach()]

    def separate() -> None:
        for module, optimizer, x in zip(modules, optimizers, own_inputs, strict=True):
            optimizer.zero_grad()
            x.grad = None
            module(x)[0].square().mean().backward()
            optimizer.step()

    parameters = [nn.Parameter(torch.stack([m.get_parameter(name).detach() for m in modules])) for name in NAMES]
    weight_ih, bias_ih, weight_hh, bias_hh = parameters
    stacked = Adam(parameters)

    def population() -> None:
        stacked.zero_grad()
        inputs.grad = None
        hidden = unroll(kind, inputs, weight_ih, bias_ih, weight_hh, bias_hh)
        (size.n * hidden.square().mean()).backward()
        stacked.step()

    return separate, population


def classifier(kind: Kind, size: Size) -> tuple[Step, Step]:
    """Word vectors, recurrence, readout and cross-entropy at the last step; all read the same tokens."""
    modules = [RecurrentClassifier(kind, VOCABULARY, size.h, size.h, CLASSES) for _ in range(size.n)]
    optimizers = [Adam(module.parameters()) for module in modules]
    bundle = RecurrentBundle.from_modules(modules)
    stacked = Adam(bundle.parameters())
    tokens, targets = torch.randint(1, VOCABULARY, (size.b, size.t)), torch.randint(CLASSES, (size.b,))
    batch = TaskBatch(tokens, targets, torch.full((size.b,), size.t))

    def loss(logits: Tensor, wanted: Tensor) -> Tensor:
        return nnf.cross_entropy(logits[..., -1, :].flatten(0, -2), wanted)

    def separate() -> None:
        for module, optimizer in zip(modules, optimizers, strict=True):
            optimizer.zero_grad()
            loss(module(tokens)[1], targets).backward()
            optimizer.step()

    def population() -> None:
        stacked.zero_grad()
        (size.n * loss(bundle(batch).output, targets.repeat(size.n))).backward()
        stacked.step()

    return separate, population


@pytest.fixture(scope="module", autouse=True)
def _header(table: Callable[[str], None]) -> None:
    table("")
    table(f"medians of {ROUNDS} alternating turns in ms, {torch.get_num_threads()} threads, torch {torch.__version__}")
    table(HEADER)


@pytest.mark.parametrize("build", [layer, classifier], ids=lambda build: build.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, (case[0], *case[1]))))
def test_training_step(
    build: Callable[[Kind, Size], tuple[Step, Step]],
    case: tuple[Kind, Size],
    benchmark: BenchmarkFixture,
    table: Callable[[str], None],
) -> None:
    kind, size = case
    torch.manual_seed(0)
    separate, population = build(kind, size)
    square = torch.randn(1024, 1024)
    for warm_up in (separate, population, population):
        warm_up()
    separate_s: list[float] = []
    population_s: list[float] = []
    product_s: list[float] = []

    def others() -> None:
        separate_s.append(seconds(separate))
        product_s.append(seconds(lambda: torch.mm(square, square)))

    # `setup` runs before each round and is not part of it: so the turns alternate.
    benchmark.pedantic(lambda: population_s.append(seconds(population)), setup=others, rounds=ROUNDS)
    ratio = median(separate_s) / median(population_s)
    best = min(separate_s) / min(population_s)
    limit = size.flops(kind) * median(product_s) / (2 * len(square) ** 3) / median(population_s)
    benchmark.extra_info.update(ratio=ratio, limit=limit)
    table(
        f"{build.__name__ + ' ' + kind:<16}{size.n:>3}{size.b:>4}{size.t:>4}{size.h:>5}"
        f"{1e3 * median(separate_s):>11.1f}{1e3 * median(population_s):>12.1f}{ratio:>7.2f}{best:>7.2f}{limit:>7.0%}"
    )


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
