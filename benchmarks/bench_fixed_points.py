"""How much sooner does `find_fixed_points` have the fixed points than Adam on the same loss?

    python -m pytest -q benchmarks/bench_fixed_points.py            # a few minutes

A GRU is trained to say which of two kinds of words was in the majority, which makes it integrate; seeds are drawn from
the states it visits, x* is its mean input. Both sides minimise `1/2 ||h - F(h)||^2` from the same seeds to the same
tolerance, in float32, as one batch which a seed leaves as soon as it has converged, through the same step. Adam's turn
ends when as large a share of the seeds has converged as asked for (95 %), or after 20 times the solver's time: then its
ratio is a lower bound, marked ">". The learning rate is the best of four; time spent on the others does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as nnf
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from dynamo.analysis.fixed_points import find_fixed_points, mean_input, visited_states
from dynamo.population.recurrence import step as recurrence_step
from dynamo.population.recurrent import RecurrentBundle
from dynamo.types import TaskBatch

SEEDS, SHARE, TOLERANCE, PATIENCE = 128, 0.95, 1e-7, 20
RATES = (3e-3, 1e-2, 3e-2, 1e-1)
WORDS, ITEMS, STEPS, UPDATES = 40, 64, 40, 250

Step = Callable[[Tensor], Tensor]


def trained(size: int) -> tuple[Step, Tensor]:
    """One step of a trained GRU of H units at its mean input, and states it visited `[SEEDS, H]`."""
    bundle, generator = RecurrentBundle(1, "gru", WORDS, 32, size, 2), torch.Generator().manual_seed(1)
    bundle.initialise([5])
    optimizer = torch.optim.Adam(bundle.parameters(), lr=3e-3)
    valence = torch.linspace(-1, 1, WORDS)

    def draw() -> TaskBatch:
        tokens = torch.randint(1, WORDS, (ITEMS, STEPS), generator=generator)
        return TaskBatch(tokens, (valence[tokens].sum(1) > 0).long(), torch.full((ITEMS,), STEPS))

    for _ in range(UPDATES):
        batch = draw()
        loss = nnf.cross_entropy(bundle(batch).output[0, :, -1], batch.targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(bundle.parameters(), 1.0)
        optimizer.step()
    assert loss < 0.4, f"the GRU has not learned its task (loss {loss:.2f})"
    bundle.requires_grad_(False)
    batch = draw()
    seeds = visited_states(bundle(batch).hidden[0], batch.lengths, SEEDS, burn_in=5).states
    gates = mean_input(bundle.embedding, [batch]) @ bundle.weight_ih[0].T + bundle.bias_ih

    # Without a context: the gathering of weights by member would slow Adam down more than the solver.
    def step(states: Tensor) -> Tensor:
        held = gates.to(states.dtype).unsqueeze(0)
        return recurrence_step("gru", held, bundle.weight_hh, bundle.bias_hh, (states.unsqueeze(0),))[0][0]

    return step, seeds


def adam(step: Step, seeds: Tensor, rate: float, limit: float) -> tuple[float, float]:
    """Seconds until `SHARE` of the seeds have converged (or the limit), and the share that has."""
    begin = time.perf_counter()
    states, mean, square = seeds.clone(), torch.zeros_like(seeds), torch.zeros_like(seeds)
    done, count = 0, 0
    while done < SHARE * len(seeds) and time.perf_counter() - begin < limit:
        count += 1
        states.requires_grad_()
        speed = (states - step(states)).square().sum(1) / 2
        (slope,) = torch.autograd.grad(speed.sum(), states)
        states, left = states.detach(), speed.detach() >= TOLERANCE
        if not left.all():
            done += int((~left).sum())
            states, mean, square, slope = states[left], mean[left], square[left], slope[left]
        mean, square = mean.lerp(slope, 0.1), square.lerp(slope.square(), 0.001)
        size = (square / (1 - 0.999**count)).sqrt_().add_(1e-8)
        states = states.addcdiv(mean, size, value=-rate / (1 - 0.9**count))
    return time.perf_counter() - begin, done / len(seeds)


@pytest.mark.parametrize("size", [64, 128])
def test_fixed_points(size: int, benchmark: BenchmarkFixture, table: Callable[[str], None]) -> None:
    torch.manual_seed(0)
    step, seeds = trained(size)
    find_fixed_points(step, seeds[:8])
    turns: list[float] = []

    def solve() -> float:
        begin = time.perf_counter()
        share = find_fixed_points(step, seeds, tolerance=TOLERANCE).converged.float().mean()
        turns.append(time.perf_counter() - begin)
        return float(share)

    share = benchmark.pedantic(solve, rounds=3)
    solver = sorted(turns)[1]
    others = {rate: adam(step, seeds, rate, PATIENCE * solver) for rate in RATES}
    rate, (seconds, reached) = min(others.items(), key=lambda entry: (-min(entry[1][1], SHARE), entry[1][0]))
    ratio = seconds / solver
    benchmark.extra_info.update(ratio=ratio, converged=share, adam_converged=reached)
    table(
        f"fixed points H={size}: solver {1e3 * solver / SEEDS:.2f} ms a seed, {share:.1%} converged; Adam at {rate:g} "
        f"{1e3 * seconds / SEEDS:.2f} ms, {reached:.1%}; ratio {'' if reached >= SHARE else '> '}{ratio:.1f}"
    )
    assert share >= SHARE
    assert ratio >= 10
