"""Does a network understand words? What each does to it on its attractor, against the word's polarity (Figure 11)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynamo.analysis.emulator import check_task, check_tokens
from dynamo.analysis.lexicon import Lexicon
from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.population.base import Bundle
from dynamo.population.recurrence import Kind, step
from dynamo.population.recurrent import RecurrentBundle

_ROUNDING = 1e-6  # a spread of effects below this share of the largest is that of float32, not of the words


class _Cell(NamedTuple):
    """One network, as far as a step from its attractor goes."""

    gates: Tensor  # what each word adds to them, [W, gS]
    weight: Tensor  # of the recurrence, [gS, S]
    bias: Tensor  # of the recurrence, [gS]
    direction: Tensor  # in which the positive-minus-negative logit grows, [S]


@torch.no_grad()
def word_effects(
    network: RecurrentMetaModel,
    theta: Tensor,
    states: Tensor,
    owner: Tensor,
    words: Tensor,
    task: str,
    *,
    positive: int = 1,
    negative: int = 0,
    chunk: int = 16_384,
) -> Tensor:
    """How far does each word push the answer of the networks at P points of the map?

    `e(w) = mean_i [g(F(theta, w, h_i)) - g(h_i)]` over the points h_i of theta's attractor, with g the
    positive-minus-negative logit.

    Args:
        network: the trained meta-model.
        theta: points of the map `[P, D]`.
        states: points of their attractors `[M, S]`; for an LSTM h and c side by side, `[M, 2S]`.
        owner: which row of theta each of these belongs to, `[M]`.
        words: token ids `[W]`.
        task: whose readout answers.
        positive: class of the positive logit.
        negative: class of the negative logit.
        chunk: pairs of a state and a word that are worked on at once; bounds memory.

    Returns:
        Effects in logits, float64 `[P, W]`, on the CPU.

    Raises:
        ValueError: a word outside the vocabulary, a class that the readout does not have, a row of theta without a
            point of its attractor or with NaN, or shapes that do not fit.

    Source: Figure 11. Its equation 8 is not at hand; this is our reading of it.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import word_effects
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, 1, hidden_size=1, embedding_size=1, architecture="rnn")
        >>> _ = [weight.requires_grad_(False).zero_() for weight in network.parameters()]
        >>> network.weight_input[0, 0] = network.heads["film"].weight[1, 0] = 1.0  # s -> tanh(x)
        >>> network.embedding.weight[7:] = torch.tensor([[1.0], [-1.0]])  # the x of words 7 and 8
        >>> words, zero = torch.tensor([7, 8]), torch.zeros(1, 1)
        >>> word_effects(network, zero, zero, torch.tensor([0]), words, "film").round(decimals=3)
        tensor([[ 0.7620, -0.7620]], dtype=torch.float64)
    """
    if theta.ndim != 2 or theta.shape[1] != network.dimensions:
        raise ValueError(f"theta must be [P, {network.dimensions}], got {list(theta.shape)}")
    if bad := (~theta.isfinite()).any(1).nonzero().flatten().tolist():
        raise ValueError(f"theta holds NaN or infinity in rows {bad}")
    check_task(network, task)
    head = network.get_parameter(f"heads.{task}.weight")
    direction = _direction(head, positive, negative)
    check_tokens(words, network.vocabulary)
    _check_states(states, owner, len(theta), network.hidden_size, network.architecture)
    points = theta.to(head)
    gates = network.embedding.weight[words.to(head.device)] @ network.weight_input.T + network.bias_input

    def cell(point: Tensor) -> _Cell:
        weight, bias = network.state_weights(point.unsqueeze(0))
        return _Cell(gates + network.weight_theta @ point, weight[0], bias[0], direction)

    return torch.stack(list(_effects(network.architecture, map(cell, points), states, owner, chunk)))


@torch.no_grad()
def base_word_effects(
    bundle: Bundle,
    members: Sequence[int],
    states: Tensor,
    owner: Tensor,
    words: Tensor,
    *,
    positive: int = 1,
    negative: int = 0,
    chunk: int = 16_384,
) -> Tensor:
    """How far does each word push the answer of base models? `word_effects`, asked of the originals.

    The entries of `members` `[P]`, indices into the bundle, take the place of the rows of theta; states are `[M, H]`,
    or `[M, 2H]` for an LSTM. Everything else is as in `word_effects`.

    Raises:
        ValueError: as `word_effects`, there is no such member, or one step of the networks is not known.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import base_word_effects
        >>> from dynamo.population import RecurrentBundle
        >>> bundle = RecurrentBundle(1, "rnn", 9, embedding_size=1, hidden_size=1, classes=2).requires_grad_(False)
        >>> bundle.weight_ih[0], bundle.readout_weight[0, 1] = 1.0, 1.0
        >>> bundle.embedding[0, 7:] = torch.tensor([[1.0], [-1.0]])  # h -> tanh(x), and word 7 has x = 1, word 8 x = -1
        >>> base_word_effects(bundle, [0], torch.zeros(1, 1), torch.tensor([0]), torch.tensor([7, 8])).round(decimals=3)
        tensor([[ 0.7620, -0.7620]], dtype=torch.float64)
    """
    if not isinstance(bundle, RecurrentBundle):
        raise ValueError(f"word effects need a recurrent network with a known step, not a {type(bundle).__name__}")
    if absent := [index for index in members if not 0 <= index < bundle.count]:
        raise ValueError(f"there is no member {absent[0]} in a bundle of {bundle.count}; give 0..{bundle.count - 1}")
    check_tokens(words, bundle.embedding.shape[1])
    directions = _direction(bundle.readout_weight, positive, negative)
    _check_states(states, owner, len(members), bundle.hidden_sizes[0], bundle.architecture)
    ids = words.to(bundle.embedding.device)

    def cell(n: int) -> _Cell:
        gates = bundle.embedding[n, ids] @ bundle.weight_ih[n].T + bundle.bias_ih[n]
        return _Cell(gates, bundle.weight_hh[n], bundle.bias_hh[n], directions[n])

    return torch.stack(list(_effects(bundle.architecture, map(cell, members), states, owner, chunk)))


def word_scores(effects: Tensor, lexicon: Lexicon, standardise: bool = True) -> Tensor:
    """How well do the networks tell positive from negative words?

    The mean over the lexicon of `sign(p_w) * e(w) / std e`. The standard deviation runs over the words of the lexicon
    at the same theta, so that networks with larger logits do not score higher. As half of the words are positive,
    what all words have in common cancels, and the score is the correlation of effects and signs.

    Args:
        effects: of the words of the lexicon, in its order, `[P, K]`.
        lexicon: the words.
        standardise: divide by the standard deviation; without it the score is in logits.

    Returns:
        float64 `[P]`, on the CPU; standardised in [-1, 1], and 0 for a network to which all words are the same.

    Raises:
        ValueError: effects of other words than those of the lexicon, or NaN among them.

    Source: Figure 11. Its equation 8 is not at hand; this is our reading of it.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Lexicon, word_scores
        >>> words = Lexicon(torch.tensor([2, 3, 4, 5]), torch.tensor([2.0, 1.0, -1.0, -2.0]), torch.full((4,), 50))
        >>> effects = torch.tensor([[3.0, 3.0, -3.0, -3.0], [1.0, -1.0, 1.0, -1.0]])  # it knows, it does not
        >>> word_scores(effects, words)
        tensor([1., 0.], dtype=torch.float64)
    """
    values = effects.detach().cpu().double()
    if values.ndim != 2 or values.shape[1] != len(lexicon.ids):
        raise ValueError(f"effects must be [P, {len(lexicon.ids)}], one per word, got {list(values.shape)}")
    if bad := (~values.isfinite()).any(1).nonzero().flatten().tolist():
        raise ValueError(f"effects hold NaN or infinity in rows {bad}")
    scores = (values * lexicon.signs).mean(1)
    if not standardise:
        return scores
    spread = values.std(1, correction=0)
    heard = spread > _ROUNDING * values.abs().amax(1)
    return torch.where(heard, scores / torch.where(heard, spread, 1.0), 0.0)


def _effects(kind: Kind, cells: Iterable[_Cell], states: Tensor, owner: Tensor, chunk: int) -> Iterator[Tensor]:
    """Mean effect `[W]` of the words on each network from its own states; `_check_states` has seen them."""
    for row, network in enumerate(cells):
        here = states[owner.to(states.device) == row].to(network.weight)
        weight, bias, effects = network.weight.unsqueeze(0), network.bias.unsqueeze(0), []
        for words in network.gates.split(max(1, chunk // len(here))):
            gates = words.repeat(len(here), 1).unsqueeze(0)  # pairs: all words at the first state, and so on
            before = here.repeat_interleave(len(words), dim=0).unsqueeze(0)
            state = before.split(len(network.direction), dim=2)
            moved = (step(kind, gates, weight, bias, state)[0] - state[0]) @ network.direction
            effects.append(moved.view(len(here), -1).cpu().double().mean(0))
        yield torch.cat(effects)


def _check_states(states: Tensor, owner: Tensor, count: int, units: int, kind: Kind) -> None:
    """Refuse attractors that are not those of `count` such networks."""
    width = 2 * units if kind == "lstm" else units
    if states.ndim != 2 or states.shape[1] != width or owner.shape != states.shape[:1]:
        raise ValueError(f"states {list(states.shape)} must be [M, {width}], one owner each, got {list(owner.shape)}")
    if count < 1 or not len(owner) or int(owner.min()) < 0 or int(owner.max()) >= count:
        raise ValueError(f"owner must say for every state which of the {count} networks it belongs to, from 0 on")
    if absent := (owner.cpu().bincount(minlength=count) == 0).nonzero().flatten().tolist():
        raise ValueError(f"no state belongs to network {absent[0]}, it has no attractor to step from; leave it out")


def _direction(readout: Tensor, positive: int, negative: int) -> Tensor:
    """How the positive-minus-negative logit grows with the states: `[..., C, S]` -> `[..., S]`."""
    classes = readout.shape[-2]
    if positive == negative or not (0 <= positive < classes and 0 <= negative < classes):
        raise ValueError(f"positive {positive} and negative {negative} must be two of the classes 0..{classes - 1}")
    return readout[..., positive, :] - readout[..., negative, :]
