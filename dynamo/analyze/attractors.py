"""Where do the networks at points of the map stay when their input does not change? What Figures 8 and 11 rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dynamo.analysis.fixed_points import FixedPoints, bundle_step, find_fixed_points, network_step
from dynamo.analysis.linearisation import Step
from dynamo.analysis.visited import VisitedStates, mean_input, visited_states
from dynamo.analyze.accuracy_map import AccuracyMap
from dynamo.analyze.run import FinishedRun
from dynamo.meta import RecurrentMetaModel
from dynamo.population import RecurrentBundle
from dynamo.types import TaskBatch, UserError

RestingInput = Literal["mean", "zero"]
POINTS_AT_ONCE = 8


@dataclass(frozen=True)
class Attractors:
    """What was found at P points of the map.

    Attributes:
        points: theta `[P, D]`.
        seeds: the visited states that the search began at, and which point each belongs to.
        found: where every seed ended.
        step: the map h -> F(theta, x*, h) that was solved.
    """

    points: Tensor
    seeds: VisitedStates
    found: FixedPoints
    step: Step

    def converged(self, point: int) -> Tensor:
        """Which seeds of this point reached a fixed point? Their indices."""
        return ((self.seeds.owner == point) & self.found.converged).nonzero().flatten()


def recurrent_network(run: FinishedRun) -> RecurrentMetaModel:
    """The meta-model, where it is one that has attractors and reads words.

    Raises:
        UserError: it is none.
    """
    network = run.task.network
    if not isinstance(network, RecurrentMetaModel) or network.reads != "tokens":
        raise UserError(
            f"this analysis needs a recurrent network that reads words, and {run.folder.root} is the run of a "
            f"{type(network).__name__} that reads {network.reads}; `dynamo analyze --help` names the others, which are "
            "for all networks."
        )
    return network


def binary_task(run: FinishedRun, task: str | None) -> str:
    """The task that attractors are looked at for: as asked, else the first with two classes.

    Raises:
        UserError: there is no such task, or it has other than two classes.
    """
    population = run.task.population
    classes = {name: bundle.classes for bundle, name in zip(population.bundles, population.tasks, strict=True)}
    chosen = task or next((name for name, count in classes.items() if count == 2), run.tasks[0])
    if classes.get(chosen) != 2:
        raise UserError(
            f"{chosen!r} is no task with two classes, of which a positive-minus-negative logit could be taken; "
            f"the population has {', '.join(f'{name} ({count} classes)' for name, count in classes.items())}."
        )
    return chosen


def readout_of(run: FinishedRun, task: str) -> Tensor:
    """The direction `[S]` in which the positive-minus-negative logit grows; for an LSTM followed by zeros for c."""
    network = recurrent_network(run)
    weight = network.get_parameter(f"heads.{task}.weight").detach()
    direction = weight[1] - weight[0]
    return torch.cat([direction, torch.zeros_like(direction)]) if network.architecture == "lstm" else direction


def resting_input(run: FinishedRun, task: str, kind: RestingInput) -> Tensor:
    """x* `[E]` of the meta-model: the mean word vector over the held-out items, or zero."""
    table = recurrent_network(run).embedding.weight.detach()
    if kind == "zero":
        return torch.zeros_like(table[0])
    return mean_input(table, [batch[task] for batch in run.held_out_batches if task in batch])


def attractors_at(
    run: FinishedRun, points: Tensor, task: str, resting: RestingInput, seeds: int, items: int, tolerance: float
) -> Attractors:
    """Solve for the fixed points of the networks at P points, all together, from states that they visit.

    Args:
        run: the meta-model and its data.
        points: theta `[P, D]`.
        task: whose held-out items are read for the seeds.
        resting: x*.
        seeds: per point.
        items: held-out items that the seeds are drawn from.
        tolerance: of q.
    """
    network, batch = recurrent_network(run), run.batch("val", task, run.loaded.drawn("val", task, items))
    parts = [
        visited_states(states_of(network, chunk, batch, task), batch.lengths, seeds).states
        for chunk in points.split(POINTS_AT_ONCE)
    ]
    owner = torch.arange(len(points), device=points.device).repeat_interleave(seeds)
    visited = VisitedStates(torch.cat(parts), owner)
    step = network_step(network, resting_input(run, task, resting))
    found = find_fixed_points(step, visited.states, points[owner], tolerance=tolerance)
    return Attractors(points, visited, found, step)


class Original(NamedTuple):
    """The attractor of a base model: what was found, and the map h -> F_n(x*, h) that was solved."""

    found: FixedPoints
    step: Step


def original_at(
    run: FinishedRun, member: int, task: str, resting: RestingInput, seeds: int, items: int, tolerance: float
) -> Original | None:
    """Solve for the fixed points of a base model at its own mean word, as `attractors_at` does for emulators.

    None where its step is not known (networks of somebody's own; an LSTM, whose cells are in no trajectory), or where
    it was trained on another task.
    """
    number, index = run.place_of(member)
    bundle = run.task.population.bundles[number]
    known = isinstance(bundle, RecurrentBundle) and bundle.architecture != "lstm"
    if not known or run.task.population.tasks[number] != task:
        return None
    batch = run.batch("val", task, run.loaded.drawn("val", task, items))
    one = torch.tensor([index], device=run.device)
    with torch.inference_mode():
        states = bundle(batch, one).hidden[0]
    visited = visited_states(states, batch.lengths, seeds)
    table = bundle.get_buffer_or_parameter("embedding").detach()
    words = torch.zeros(len(table), table.shape[2]).to(table)
    if resting == "mean":
        words[index] = mean_input(table[index], [part[task] for part in run.held_out_batches if task in part])
    step = bundle_step(bundle, words)
    return Original(find_fixed_points(step, visited.states, one.expand(seeds), tolerance=tolerance), step)


@torch.inference_mode()
def states_of(network: RecurrentMetaModel, points: Tensor, batch: TaskBatch, task: str) -> Tensor:
    """What the networks go through, `[P, B, T, S]`; of an LSTM h and c side by side, `[P, B, T, 2S]`."""
    if network.architecture != "lstm":
        hidden: Tensor = network(points, batch.inputs, task).hidden[0]
        return hidden
    shape = (len(points), len(batch.inputs), network.hidden_size)
    state = (points.new_zeros(shape), points.new_zeros(shape))
    steps = []
    for tokens in batch.inputs.T:
        state = network.step(points, network.embedding(tokens).expand(len(points), -1, -1), state)  # type: ignore[assignment]
        steps.append(torch.cat(state, dim=-1))
    return torch.stack(steps, dim=2)


def best_theta(run: FinishedRun) -> Tensor:
    """X, the best point of the map `[D]`, from the run's accuracy map.

    Raises:
        UserError: the map has not been made for the weights as they are now.
    """
    if not run.folder.done(AccuracyMap.name) or run.folder.newer_weights(AccuracyMap.name):
        raise UserError(
            f"{run.folder.root} has no accuracy map of its present weights, which says where X lies: first "
            f"`dynamo analyze accuracy_map --run {run.folder.root}`."
        )
    return torch.tensor(run.folder.read_result(AccuracyMap.name)["x_theta"]).to(run.task.theta)
