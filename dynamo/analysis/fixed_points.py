"""At which states does a network stay when its input does not change? Fixed points of h -> F(x*, h) (Figure 8)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import torch
from torch import Tensor

from dynamo.analysis.levenberg_marquardt import Iterate, begin, damped_step, run_on
from dynamo.analysis.linearisation import Step, check_rows, evaluate, plain
from dynamo.analysis.visited import VisitedStates as VisitedStates
from dynamo.analysis.visited import mean_input as mean_input
from dynamo.analysis.visited import visited_states as visited_states
from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.population.base import Bundle
from dynamo.population.recurrence import step as recurrence_step
from dynamo.population.recurrent import RecurrentBundle

_PATIENCE: Final = 5
_PROGRESS: Final = 0.95
"""A seed is stuck when so many iterations in a row left more than this share of its speed."""
_RUN: Final = 64
"""Steps of the network that make up one iteration of a stuck seed; they cost less than a Jacobian."""


@dataclass(frozen=True)
class FixedPoints:
    """Where did every seed end, and does the network stay there?

    Attributes:
        states: `[P, S]`, in the order of the seeds, converged or not.
        speed: `q = 1/2 ||h - F(h)||^2`, `[P]`; not finite where a seed or the network's answer to it was not.
        converged: `q < tolerance`, bool `[P]`.
        iterations: Jacobians (or, once stuck, runs of the network) spent on every seed, int64 `[P]`; 0 for a seed
            that was a fixed point.
        context: the rows that the caller gave, `[P, ...]`.
        ran_on: seeds whose descent got stuck at a slow point that is no fixed point, and which therefore went where
            the network itself goes, bool `[P]`; None where nobody recorded it.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import find_fixed_points
        >>> found = find_fixed_points(torch.tanh, torch.tensor([[0.4], [-0.3], [0.1]]), tolerance=1e-9)
        >>> found.converged.tolist(), len(found.unique(radius=0.1))  # all of them end at 0
        ([True, True, True], 1)
    """

    states: Tensor
    speed: Tensor
    converged: Tensor
    iterations: Tensor
    context: Tensor | None = None
    ran_on: Tensor | None = None

    def take(self, rows: Tensor) -> FixedPoints:
        """What was found from some of the seeds, by their indices `[K]`, in that order."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: part[rows] for name, part in parts.items() if part is not None})

    def unique(self, radius: float) -> Tensor:
        """Which points are different ones? Of converged points closer than a radius the slowest stands for all.

        Args:
            radius: Euclidean distance up to which two points of the same context are one; on a line of fixed points
                this is the spacing of the representatives.

        Returns:
            Indices of the representatives, lowest speed first; no two of one context are within the radius.

        Raises:
            ValueError: the radius is negative or not a number.
        """
        if not radius >= 0:
            raise ValueError(f"radius must be 0 or more, got {radius}")
        found = self.converged.nonzero().flatten()
        left = found[self.speed[found].argsort(stable=True)]
        kind = torch.zeros_like(self.iterations)
        if self.context is not None:
            kind = torch.unique(self.context, dim=0, return_inverse=True)[1]
        chosen: list[Tensor] = []
        while len(left):
            first = left[0]
            chosen.append(first)
            near = (self.states[left] - self.states[first]).square().sum(1).sqrt() <= radius
            near = near & (kind[left] == kind[first])
            near[0] = True
            left = left[~near]
        return torch.stack(chosen) if chosen else found


@torch.inference_mode(False)
@torch.no_grad()
def find_fixed_points(
    step: Step,
    seeds: Tensor,
    context: Tensor | None = None,
    *,
    tolerance: float = 1e-7,
    iterations: int = 100,
    dtype: torch.dtype | None = None,
    chunk: int = 256,
    run_on_when_stuck: bool = True,
) -> FixedPoints:
    """At which states close to the seeds does the network stay, to within a tolerance?

    Levenberg-Marquardt on `q = 1/2 ||h - F(h)||^2` (levenberg_marquardt.py); a seed leaves as soon as q is below the
    tolerance, so what is found are approximate fixed points near the seeds. Where the descent is stuck at a slow
    point with q above the tolerance (the trace of a pair of fixed points that has just vanished), the seed starts
    again and the network itself runs on until it stays.

    Args:
        step: see `linearisation.Step`; wants the context if there is one.
        seeds: `[P, S]`, such as visited states.
        context: what travels with every seed, `[P, ...]`: theta, so that many networks are solved together.
        tolerance: of q; `1e-7` is a step of length 4.5e-4.
        iterations: Jacobians (runs, once stuck) that a seed may use.
        dtype: the arithmetic; that of the seeds by default. The step has to follow the type of the states.
        chunk: seeds that are worked on at a time; bounds the memory to a few times `[chunk, S, S]`.
        run_on_when_stuck: False leaves a stuck seed at its slow point, marked as not converged.

    Raises:
        ValueError: shapes, types or settings make no sense.

    Source: Figure 8; approximate fixed points after Sussillo & Barak (2013). Method, tolerance and seeds are not
        given in the paper.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import find_fixed_points
        >>> found = find_fixed_points(lambda h: h / 2 + 1, torch.tensor([[0.0, 5.0], [9.0, -9.0]]))
        >>> found.states.round(decimals=2)
        tensor([[2., 2.],
                [2., 2.]])
    """
    start = plain(seeds).to(dtype or seeds.dtype)
    check_rows("seeds", start, context, chunk)
    if not tolerance > 0 or iterations < 1:
        raise ValueError(f"tolerance must be above 0 and iterations at least 1, got {tolerance} and {iterations}")
    rows = None if context is None else plain(context)
    if rows is not None and rows.is_floating_point():
        rows = rows.to(start.dtype)

    after = evaluate(step, start[:1], None if rows is None else rows[:1])
    if after.shape != start[:1].shape or after.dtype != start.dtype:
        raise ValueError(
            f"step made {list(after.shape)} {after.dtype} of states [1, {start.shape[1]}] {start.dtype}; "
            "it has to keep shape and type"
        )
    now, used, ran_on = _search(step, start, rows, tolerance, iterations, chunk, run_on_when_stuck)
    return FixedPoints(now.states, now.speed, now.speed < tolerance, used, context, ran_on)


def _search(
    step: Step, seeds: Tensor, context: Tensor | None, tolerance: float, iterations: int, chunk: int, run: bool
) -> tuple[Iterate, Tensor, Tensor]:
    """The loop of `find_fixed_points`: where the seeds ended, iterations used, which ones ran on."""

    def of(index: Tensor) -> Tensor | None:
        return None if context is None else context[index]

    def rows(which: Tensor) -> list[Tensor]:
        return [part for part in which.nonzero().flatten().split(chunk) if len(part)]

    everyone = torch.arange(len(seeds), device=seeds.device)
    first = [begin(step, seeds[part], of(part)) for part in everyone.split(chunk)]
    now = Iterate(*(torch.cat(parts) for parts in zip(*first, strict=True)))
    used, stuck, running = torch.zeros_like(everyone), torch.zeros_like(everyone), torch.zeros_like(now.speed).bool()
    for _ in range(iterations):
        unfinished = now.speed.isfinite() & (now.speed >= tolerance) & (running | (stuck < _PATIENCE))
        if not unfinished.any():
            break
        used += unfinished
        for part in rows(unfinished & running):
            now.put(part, run_on(step, now.rows(part), of(part), tolerance, _RUN))
        for part in rows(unfinished & ~running):
            before = now.rows(part)
            now.put(part, damped_step(step, before, of(part)))
            stuck[part] = torch.where(now.speed[part] > _PROGRESS * before.speed, stuck[part] + 1, 0)
        if run:
            again = (stuck >= _PATIENCE) & ~running & (now.speed >= tolerance)
            for part in rows(again):
                now.put(part, begin(step, seeds[part], of(part)))
            running |= again
    return now, used, running


def network_input_step(network: RecurrentMetaModel) -> Step:
    """F of the meta-model with its input open: `step(states [P, S], words [P or 1, E], theta [P, D]) -> [P, S]`.

    Holds a copy of the weights as they are now, cast once for every type of states that arrives.
    """
    copies: dict[torch.dtype, RecurrentMetaModel] = {}
    with torch.inference_mode(False):
        frozen = copy.deepcopy(network).requires_grad_(False)

    def step(states: Tensor, words: Tensor, theta: Tensor) -> Tensor:
        if states.dtype not in copies:
            copies[states.dtype] = copy.deepcopy(frozen).to(states.dtype)
        parts = states.unsqueeze(1).split(frozen.hidden_size, dim=-1)
        after = copies[states.dtype].step(theta.to(states.dtype), words.to(states.dtype).unsqueeze(1), parts)
        return torch.cat(after, dim=-1).squeeze(1)

    return step


def network_step(network: RecurrentMetaModel, word_vector: Tensor) -> Step:
    """F of the meta-model at one input: `step(states [P, S], theta [P, D]) -> [P, S]`.

    Args:
        network: the trained meta-model; left alone, see `network_input_step`. The state of an LSTM is `(h, c)` side by
            side, `[P, 2S]`.
        word_vector: x*, `[E]`: see `mean_input`, or zeros.

    Raises:
        ValueError: the word vector has another length than the network's.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import network_step
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, architecture="rnn").requires_grad_(False)
        >>> _ = [weight.zero_() for weight in network.parameters()]
        >>> network.weight_theta[0, 0] = 1.0  # s -> tanh(theta)
        >>> step = network_step(network, word_vector=torch.zeros(128))
        >>> step(torch.zeros(2, 1), torch.tensor([[0.0], [1.0]])).round(decimals=3)
        tensor([[0.0000],
                [0.7620]])
    """
    size = network.embedding.weight.shape[1]
    if word_vector.shape != (size,):
        raise ValueError(f"word_vector must be [{size}], as the network's word vectors, got {list(word_vector.shape)}")
    step = network_input_step(network)
    with torch.inference_mode(False):
        words = word_vector.detach().clone().unsqueeze(0)
    return lambda states, theta: step(states, words, theta)


def bundle_input_step(bundle: Bundle) -> Step:
    """F_n of base models with the input open: `step(states [P, H], words [P, E], member [P]) -> [P, H]`.

    Holds a copy of the weights, as `network_input_step` does; `member` are indices into the bundle.

    Raises:
        ValueError: the bundle's networks are not recurrent networks of ours, of which one step is known.
    """
    if not isinstance(bundle, RecurrentBundle):
        raise ValueError(f"fixed points need a recurrent network with a known step, not a {type(bundle).__name__}")
    kind, size = bundle.architecture, bundle.weight_hh.shape[2]
    copies: dict[torch.dtype, list[Tensor]] = {}
    with torch.inference_mode(False):
        frozen = [p.detach().clone() for p in (bundle.weight_ih, bundle.bias_ih, bundle.weight_hh, bundle.bias_hh)]

    def step(states: Tensor, words: Tensor, member: Tensor) -> Tensor:
        if states.dtype not in copies:
            copies[states.dtype] = [weight.to(states.dtype) for weight in frozen]
        weight_ih, bias_ih, weight_hh, bias_hh = (weight[member] for weight in copies[states.dtype])
        gates = torch.baddbmm(bias_ih.unsqueeze(1), words.to(states.dtype).unsqueeze(1), weight_ih.mT)
        after = recurrence_step(kind, gates, weight_hh, bias_hh, states.unsqueeze(1).split(size, dim=-1))
        return torch.cat(after, dim=-1).squeeze(1)

    return step


def bundle_step(bundle: Bundle, word_vectors: Tensor) -> Step:
    """F_n of base models, each at its own input: `step(states [P, H], member [P]) -> [P, H]`.

    Args:
        bundle: the members; left alone. The state of an LSTM is `(h, c)` side by side, `[P, 2H]`.
        word_vectors: x* of every member, `[N, E]`.

    Raises:
        ValueError: as `bundle_input_step`; or the word vectors do not fit the bundle.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import bundle_step
        >>> from dynamo.population import RecurrentBundle
        >>> bundle = RecurrentBundle(2, "rnn", 9, 2, hidden_size=1, classes=2).requires_grad_(False)
        >>> bundle.bias_hh[:] = torch.tensor([[0.0], [1.0]])  # h -> tanh(0) and h -> tanh(1)
        >>> step = bundle_step(bundle, torch.zeros(2, 2))
        >>> step(torch.zeros(2, 1), torch.tensor([0, 1])).round(decimals=3)
        tensor([[0.0000],
                [0.7620]])
    """
    step = bundle_input_step(bundle)
    embedding = bundle.get_buffer_or_parameter("embedding")
    if word_vectors.shape != (len(embedding), embedding.shape[2]):
        raise ValueError(
            f"word_vectors {list(word_vectors.shape)} must be {[len(embedding), embedding.shape[2]]}, "
            "one for each member"
        )
    with torch.inference_mode(False):
        words = word_vectors.detach().clone()
    return lambda states, member: step(states, words[member], member)
