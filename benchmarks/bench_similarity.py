"""How much faster are all distances between models than one factorisation after the other for every pair?

    make bench
    python -m pytest -q benchmarks/bench_similarity.py              # the table alone: a minute
    DYNAMO_BENCH_ROUNDS=3 python -m pytest -q benchmarks/bench_similarity.py

All 190 SVCCA distances between 20 models of 128 features on 8,000 samples. The straightforward way, as in
google/svcca, takes each pair for itself: SVD of both, QR of what is kept, SVD of the product, all in float64. It is
timed on a few pairs, taking turns with ours, and scaled up to all 190. "pairwise" has the states in memory and leaves
away what is not kept before it compares models; "streamed" is `SimilaritySums`, which may not look ahead. Two kinds of
states: "falling" spectra like those of trained GRUs, of which 99 % of the variance lies in a fifth of the directions
(11 to 16 of 64 in configs/meta/imdb_gru_sizes.yaml); and "flat" ones, independent noise with nothing to leave away,
where the products between models alone are most of the work.

In memory on falling spectra, which is what trained networks give, the median ratio has to be 30 at least. The other
three rows have no bar to clear: without foresight, or with nothing to leave away, it is less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import combinations, cycle
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from dynamo.analysis.similarity import pairwise
from dynamo.analysis.similarity_sums import SimilaritySums

ROUNDS = int(os.environ.get("DYNAMO_BENCH_ROUNDS", "7"))
LEAST_RATIO = 30.0
MODELS, SAMPLES, FEATURES, VARIANCE = 20, 8_000, 128, 0.99
PAIRS = list(combinations(range(MODELS), 2))
SLOW_PAIRS = 3
HEADER = f"{'states':<10}{'way':<10}{'kept':>5}{'per pair x 190':>16}{'ours':>8}{'ratio':>7}{'best':>7}"


def falling() -> list[Tensor]:
    """Half of what varies is common to all models; standard deviations fall as 1 / rank, in a basis of its own."""
    common = torch.randn(SAMPLES, FEATURES)
    scales = 1 / torch.arange(1, FEATURES + 1) ** 1.1
    bases = [torch.linalg.qr(torch.randn(FEATURES, FEATURES))[0] for _ in range(MODELS)]
    return [((common + torch.randn(SAMPLES, FEATURES)) * scales) @ basis for basis in bases]


def flat() -> list[Tensor]:
    return [torch.randn(SAMPLES, FEATURES) for _ in range(MODELS)]


def one_pair(x: Tensor, y: Tensor) -> float:
    """The distance of one pair, by itself."""
    bases = []
    for states in (x.double(), y.double()):
        u, s, _ = torch.linalg.svd(states - states.mean(0), full_matrices=False)
        held = s.square().cumsum(0) / s.square().sum()
        kept = int((held < VARIANCE).sum()) + 1
        bases.append(torch.linalg.qr(u[:, :kept] * s[:kept])[0])
    return 1 - float(torch.linalg.svd(bases[0].T @ bases[1])[1].mean())


def in_memory(states: list[Tensor]) -> Tensor:
    return pairwise(states, "svcca", VARIANCE)


def streamed(states: list[Tensor]) -> Tensor:
    sums = SimilaritySums([FEATURES] * MODELS)
    sums.update(states)
    return sums.distances("svcca", VARIANCE)


@pytest.fixture(scope="module", autouse=True)
def _header(table: Callable[[str], None]) -> None:
    table("")
    table(f"SVCCA distances of {len(PAIRS)} pairs in s, medians of {ROUNDS} turns, {torch.get_num_threads()} threads")
    table(HEADER)


@pytest.mark.parametrize("ours", [in_memory, streamed], ids=lambda ours: ours.__name__)
@pytest.mark.parametrize("build", [falling, flat], ids=lambda build: build.__name__)
def test_all_pairs(
    build: Callable[[], list[Tensor]],
    ours: Callable[[list[Tensor]], Tensor],
    benchmark: BenchmarkFixture,
    table: Callable[[str], None],
) -> None:
    torch.manual_seed(0)
    states = build()
    distances = ours(states)
    for i, j in PAIRS[:SLOW_PAIRS]:
        assert float(distances[i, j]) == pytest.approx(one_pair(states[i], states[j]), abs=1e-9)
    kept = torch.linalg.svdvals(states[0].double() - states[0].double().mean(0)).square()
    kept_count = int((kept.cumsum(0) / kept.sum() < VARIANCE).sum()) + 1
    slow_s: list[float] = []
    ours_s: list[float] = []
    pairs = cycle(PAIRS)

    def slow() -> None:
        took = seconds(lambda: [one_pair(states[i], states[j]) for i, j in (next(pairs) for _ in range(SLOW_PAIRS))])
        slow_s.append(took / SLOW_PAIRS * len(PAIRS))

    # `setup` runs before each round and is not part of it: so the turns alternate.
    benchmark.pedantic(lambda: ours_s.append(seconds(lambda: ours(states))), setup=slow, rounds=ROUNDS)
    ratio, best = median(slow_s) / median(ours_s), min(slow_s) / min(ours_s)
    benchmark.extra_info.update(ratio=ratio, best=best)
    table(
        f"{build.__name__:<10}{ours.__name__:<10}{kept_count:>5}"
        f"{median(slow_s):>16.1f}{median(ours_s):>8.2f}{ratio:>7.1f}{best:>7.1f}"
    )
    if (build, ours) == (falling, in_memory):
        assert ratio >= LEAST_RATIO, "all distances have become dearer beside the pairs one by one"


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
