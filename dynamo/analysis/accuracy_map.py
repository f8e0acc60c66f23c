"""How good is the meta-model's network at every point of the plane, and where is the best one (Figure 6)?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor

from dynamo.analysis.emulator import Emulator as Emulator
from dynamo.analysis.emulator import check_labelled, check_task
from dynamo.analysis.local_search import LocalSearch, directions, local_search
from dynamo.types import TaskBatch


@dataclass(frozen=True)
class Answers:
    """How well did the networks at P points answer? On the CPU.

    Attributes:
        right: right answers `[P]`, int64.
        log_likelihood: sum over the items of log p(target) `[P]`, float64, in nats.
        items: how many items each point answered.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Answers
        >>> found = Answers(right=torch.tensor([8, 5]), log_likelihood=torch.tensor([-3.0, -6.0]).double(), items=10)
        >>> found.accuracy
        tensor([0.8000, 0.5000], dtype=torch.float64)
    """

    right: Tensor
    log_likelihood: Tensor
    items: int

    @property
    def accuracy(self) -> Tensor:
        """Share of right answers `[P]`, float64."""
        return self.right.double() / self.items


@torch.no_grad()
def answers_at(
    network: Emulator, points: Tensor, task: str, batches: Iterable[dict[str, TaskBatch]], chunk: int = 64
) -> Answers:
    """How well do the networks at these points of the map answer a task's items?

    What does not depend on theta is done once per batch for all points; the points of a chunk then advance as one
    batch. Every point gets the counts that it gets alone, except where two classes tie to the last bit (see
    `RecurrentMetaModel.answers`).
    Memory beyond the batch: for a recurrent network with g gates (GRU 3, LSTM 4, RNN 1) `T B g S` numbers for
    what is shared and about `chunk B S (2g + 4)` for the chunk, whatever P and T; with weights that depend on
    theta `2 chunk g S^2` more.

    Several processes deal the points out, `points[rank::world]`, and put the counts together with `interleave`.

    Args:
        network: the trained meta-model.
        points: `[P, D]`; P = 0 is allowed, for a process that no point was left for.
        task: whose items and readout.
        batches: labelled items, read once; those of other tasks are passed over.
        chunk: points that advance together at most.

    Raises:
        ValueError: `chunk` is below 1, the points do not fit the network or hold NaN or infinity, or the network does
            not know the task; and, as the batches are read, one holds 0 items, or items with tokens or targets that
            the network does not know, or none holds items of this task.

    Source: Figure 6.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import answers_at
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, architecture="rnn").requires_grad_(False)
        >>> _ = [weight.zero_() for weight in network.parameters()]
        >>> network.weight_theta[0, 0] = network.heads["film"].weight[1, 0] = 1.0  # "positive" where theta > 0
        >>> items = TaskBatch(torch.tensor([[2, 3], [4, 5], [6, 7]]), torch.tensor([1, 1, 0]), torch.tensor([2, 2, 2]))
        >>> answers_at(network, torch.tensor([[-1.0], [1.0]]), "film", [{"film": items}]).right
        tensor([1, 2])
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 point, got {chunk}")
    if points.ndim != 2 or points.shape[1] != network.dimensions:
        raise ValueError(f"points must be [P, D] with D = {network.dimensions}, got {list(points.shape)}")
    if not points.isfinite().all():
        bad = (~points.isfinite()).any(1).nonzero().flatten().tolist()
        raise ValueError(f"points hold NaN or infinity in rows {bad}")
    check_task(network, task)
    right = torch.zeros(len(points), dtype=torch.int64)
    log_likelihood = torch.zeros(len(points), dtype=torch.float64)
    items = 0
    for part in (batch[task] for batch in batches if task in batch):
        check_labelled(network, task, part)
        prepared = network.prepare(part.inputs)
        for place in range(0, len(points), chunk):
            here = slice(place, place + chunk)
            logits = network.answers(points[here], prepared, part.lengths, task)
            right[here] += (logits.argmax(-1) == part.targets).sum(1).cpu()
            wanted = part.targets.expand(logits.shape[:2]).unsqueeze(-1)
            log_likelihood[here] += nnf.log_softmax(logits, -1).gather(-1, wanted).squeeze(-1).cpu().double().sum(1)
        items += len(part.targets)
    if not items:
        raise ValueError(f"There is no item of task {task!r} to measure an accuracy on.")
    return Answers(right, log_likelihood, items)


def interleave(parts: Sequence[Tensor]) -> Tensor:
    """What were the values in order, before they were dealt out as `values[rank::world]`?

    Args:
        parts: of every rank in turn, `[P / world, ...]`, rounded up for the first ranks and down for the rest.

    Returns:
        `[P, ...]`.

    Raises:
        ValueError: there are no parts, or their lengths are not those of a deal.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import interleave
        >>> values = torch.tensor([10, 11, 12, 13, 14])
        >>> interleave([values[0::2], values[1::2]])  # dealt out to two processes
        tensor([10, 11, 12, 13, 14])
    """
    count, world = sum(map(len, parts)), len(parts)
    if not world or [len(part) for part in parts] != [len(range(rank, count, world)) for rank in range(world)]:
        raise ValueError(f"parts of lengths {[len(part) for part in parts]} were not dealt out one by one in turn")
    whole = parts[0].new_empty(count, *parts[0].shape[1:])
    for rank, part in enumerate(parts):
        whole[rank::world] = part
    return whole


def relative_accuracy(answers: Mapping[str, Answers], best_base: Mapping[str, float]) -> Tensor:
    """How good are the points beside the best base model? Accuracy over its accuracy, mean over the tasks.

    Args:
        answers: those of every task, at the same points.
        best_base: the best base model's accuracy on the same items, by task, in (0, 1].

    Returns:
        `[P]`, float64; above 1 where a point beats every base model.

    Raises:
        ValueError: no task, tasks or numbers of points that differ, or an accuracy out of range.

    Source: the colour of Figure 6.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Answers, relative_accuracy
        >>> found = Answers(right=torch.tensor([8, 9]), log_likelihood=torch.tensor([-3.0, -2.0]).double(), items=10)
        >>> relative_accuracy({"film": found}, best_base={"film": 0.8}).round(decimals=4)
        tensor([1.0000, 1.1250], dtype=torch.float64)
    """
    if not answers and not best_base:
        raise ValueError("there is no task to compare on; give the answers to one at least")
    if set(answers) != set(best_base):
        raise ValueError(f"answers to {sorted(answers)} and base models of {sorted(best_base)}: name the same tasks")
    if wrong := {task: value for task, value in best_base.items() if not 0 < value <= 1}:
        raise ValueError(f"a best base model's accuracy must lie in (0, 1], got {wrong}")
    if len({len(found.right) for found in answers.values()}) > 1:
        raise ValueError(f"points differ: { ({task: len(found.right) for task, found in answers.items()}) }")
    return torch.stack([found.accuracy / best_base[task] for task, found in answers.items()]).mean(0)


def preference(answers: Mapping[str, Answers], best_base: Mapping[str, float]) -> Tensor:
    """Which point is to be preferred? `relative_accuracy`, and the likelihood of the right answers between equals.

    The geometric mean of p(target), in (0, 1], adds at most half of what one more right answer would.

    Returns:
        `[P]`, float64.

    Raises:
        ValueError: as `relative_accuracy`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Answers, preference
        >>> found = Answers(torch.tensor([8, 8, 7]), torch.tensor([-3.0, -2.0, -1.0]).double(), items=10)
        >>> int(preference({"film": found}, best_base={"film": 0.8}).argmax())  # of those right 8 times, the surer
        1
    """
    relative = relative_accuracy(answers, best_base)
    weight = 0.5 * min(1 / (found.items * best_base[task]) for task, found in answers.items()) / len(answers)
    likely = [(found.log_likelihood / found.items).exp() for found in answers.values()]
    return relative + weight * torch.stack(likely).mean(0)


def best_point(
    network: Emulator,
    theta: Tensor,
    points: Tensor,
    answers: Mapping[str, Answers],
    best_base: Mapping[str, float],
    batches: Sequence[dict[str, TaskBatch]],
    rounds: int = 8,
    candidates: int = 24,
    seed: int = 0,
    chunk: int = 64,
) -> LocalSearch:
    """Where does the best network stand, beyond the points of the grid? The X of Figure 6.

    From the best of the points, a local search in all D dimensions, in the directions in which the models differ.
    Chosen on held-out items: measure it with `answers_at` on others.

    Args:
        network: the trained meta-model.
        theta: embeddings `[N, D]`.
        points: where `answers` were given `[P, D]`, such as a grid's.
        answers: by task, to the items of `batches`.
        best_base: as in `relative_accuracy`.
        batches: held-out items, read once a round.
        rounds: as in `local_search`, as are `candidates` and `seed`.
        candidates: points per round.
        seed: of the search.
        chunk: as in `answers_at`.

    Returns:
        The search; its scores are `preference`, which is at most half a right answer above `relative_accuracy`.

    Raises:
        ValueError: as `relative_accuracy`, `answers_at` and `local_search`, or there are not as many answers as points.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import answers_at, best_point
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, architecture="rnn").requires_grad_(False)
        >>> _ = [weight.zero_() for weight in network.parameters()]
        >>> network.weight_theta[0, 0] = network.heads["film"].weight[1, 0] = 1.0  # surer with larger theta
        >>> batch = {"film": TaskBatch(torch.tensor([[2, 3]]), torch.tensor([1]), torch.tensor([2]))}
        >>> theta = torch.tensor([[-1.0], [1.0]])
        >>> answers = {"film": answers_at(network, theta, "film", [batch])}
        >>> found = best_point(network, theta, theta, answers, {"film": 1.0}, [batch])
        >>> bool(found.start == 1), bool(found.point > 1)
        (True, True)
    """
    scores = preference(answers, best_base)
    if not 0 < len(points) == len(scores):
        raise ValueError(f"{len(points)} points and answers at {len(scores)}: give the answers at these points")

    def score(at: Tensor) -> Tensor:
        return preference({task: answers_at(network, at, task, batches, chunk) for task in answers}, best_base)

    start = points[int(scores.argmax())]
    return local_search(score, start, directions(theta), rounds, candidates, seed=seed)
