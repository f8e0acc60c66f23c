"""Polarities by hand, effects word by word and point by point, scores in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynamo.analysis.lexicon import Lexicon, lexicon, polarities
from dynamo.analysis.word_scores import base_word_effects, word_effects, word_scores
from dynamo.meta.recurrent import Conditioning, RecurrentMetaModel
from dynamo.population.hooks import Probe
from dynamo.population.modules import ModuleBundle
from dynamo.population.observation import Form
from dynamo.population.recurrent import Architecture, RecurrentBundle
from dynamo.types import TaskBatch

REVIEWS = [  # tokens, class
    ([2, 3, 3], 1),
    ([2, 1], 1),
    ([4, 2, 5, 3], 1),
    ([5, 3], 0),
    ([5, 1, 6], 0),
    ([6, 2, 2, 7], 2),
]


def corpus(reviews: list[tuple[list[int], int]]) -> TaskBatch:
    longest = max(len(tokens) for tokens, _ in reviews)
    inputs = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens, _ in reviews])
    return TaskBatch(inputs, torch.tensor([c for _, c in reviews]), torch.tensor([len(t) for t, _ in reviews]))


def odds(p: int, n: int, smoothing: float = 1.0, positive: int = 3, negative: int = 2) -> float:
    return math.log((p + smoothing) / (positive - p + smoothing)) - math.log(
        (n + smoothing) / (negative - n + smoothing)
    )


def test_polarity_of_a_corpus_by_hand() -> None:
    polarity, counts = polarities([corpus(REVIEWS)], vocab_size=9)
    assert counts.tolist() == [0, 0, 3, 3, 1, 3, 1, 0, 0]  # padding and unknown never; word 3 once in a review
    expected = [0, 0, odds(3, 0), odds(2, 1), odds(1, 0), odds(1, 2), odds(0, 1), 0, 0]
    assert polarity.tolist() == pytest.approx(expected, abs=1e-12)
    assert polarity.dtype == torch.float64
    smoother = polarities([corpus(REVIEWS)], vocab_size=9, smoothing=0.5).polarity
    assert float(smoother[3]) == pytest.approx(odds(2, 1, 0.5), abs=1e-12)


def test_polarity_does_not_depend_on_the_batches_and_turns_with_the_classes() -> None:
    whole = polarities([corpus(REVIEWS)], vocab_size=9)
    parts = polarities((corpus(REVIEWS[i : i + 2]) for i in (4, 0, 2)), vocab_size=9)
    assert torch.equal(whole.polarity, parts.polarity)
    assert torch.equal(whole.counts, parts.counts)
    turned = polarities([corpus(REVIEWS)], vocab_size=9, positive=0, negative=1)
    torch.testing.assert_close(turned.polarity, -whole.polarity)


def test_what_lies_behind_the_end_of_a_review_does_not_count() -> None:
    batch = corpus(REVIEWS)
    beyond = torch.arange(batch.inputs.shape[1]) >= batch.lengths.unsqueeze(1)
    dirty = batch._replace(inputs=batch.inputs.masked_fill(beyond, 7))
    assert torch.equal(polarities([dirty], vocab_size=9).polarity, polarities([batch], vocab_size=9).polarity)


def test_refuses_a_corpus_without_polarity() -> None:
    batch = corpus(REVIEWS)
    with pytest.raises(ValueError, match="no review of class 0"):
        polarities([corpus(REVIEWS[:3])], vocab_size=9)
    with pytest.raises(ValueError, match="no review of class 1"):
        polarities([], vocab_size=9)
    with pytest.raises(ValueError, match="token id 7 lies outside the vocabulary of 7"):
        polarities([batch], vocab_size=7)
    with pytest.raises(ValueError, match="both class 1"):
        polarities([batch], vocab_size=9, negative=1)
    with pytest.raises(ValueError, match="smoothing must be above 0"):
        polarities([batch], vocab_size=9, smoothing=0.0)
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        polarities([TaskBatch(*(part.unsqueeze(0) for part in batch))], vocab_size=9)


POLARITY = torch.tensor([0.0, 0.0, 3.0, -1.0, 2.0, -2.0, 5.0, 1.0, -3.0, 0.0])
COUNTS = torch.tensor([0, 0, 60, 70, 50, 80, 49, 90, 99, 400])


def test_lexicon_holds_the_most_polar_frequent_words_of_each_sign() -> None:
    found = lexicon(POLARITY, COUNTS, size=4, least=50)
    assert found.ids.tolist() == [2, 4, 8, 5]  # word 6 is more polar and too rare
    assert found.polarity.tolist() == [3.0, 2.0, -3.0, -2.0]
    assert found.counts.tolist() == [60, 50, 99, 80]
    assert found.signs.tolist() == [1.0, 1.0, -1.0, -1.0]
    assert lexicon(POLARITY, COUNTS, size=6, least=0).ids.tolist() == [6, 2, 4, 8, 5, 3]


def test_refuses_a_lexicon_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"8 needs 4 words of each sign in 50 .* 3 positive and 3 negative"):
        lexicon(POLARITY, COUNTS, size=8, least=50)
    for size in (0, 3):
        with pytest.raises(ValueError, match=f"even and at least 2, .* got {size}"):
            lexicon(POLARITY, COUNTS, size=size)
    with pytest.raises(ValueError, match=r"\[10\] and counts \[9\]"):
        lexicon(POLARITY, COUNTS[:9])


WORDS = torch.tensor([5, 1, 11, 3, 8])
OWNER = torch.tensor([2, 0, 1, 2, 2, 0, 1])  # two, two and three points, mixed


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model(architecture: Architecture, conditioning: Conditioning = "input") -> RecurrentMetaModel:
    return RecurrentMetaModel(12, {"t": 3, "u": 2}, 4, 5, 6, architecture, conditioning, embedding_scale=1.0)


@pytest.mark.parametrize(
    ("architecture", "conditioning"),
    [("gru", "input"), ("lstm", "input"), ("rnn", "input"), ("gru", "weights"), ("lstm", "weights")],
)
def test_effects_are_those_of_one_step_at_a_time(architecture: Architecture, conditioning: Conditioning) -> None:
    network, theta = model(architecture, conditioning), random(3, 4)
    states = random(7, 10 if architecture == "lstm" else 5, seed=1)
    found = word_effects(network, theta, states, OWNER, WORDS, "t", positive=2, negative=0)
    expected = torch.zeros(3, 5, dtype=torch.float64)
    with torch.no_grad():
        for p in range(3):
            for w, word in enumerate(WORDS):
                moves = []
                for state in states[p == OWNER]:
                    parts = tuple(part.view(1, 1, 5) for part in state.split(5))
                    after = network.step(theta[p : p + 1], network.embedding.weight[word].view(1, 1, 6), parts)
                    before, now = (network.read_out(h[0, 0], "t") for h in (parts[0], after[0]))
                    moves.append((now[2] - now[0]) - (before[2] - before[0]))
                expected[p, w] = torch.stack(moves).double().mean()
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gru", "lstm", "rnn"])
def test_effects_on_base_models_are_those_of_their_modules(architecture: str) -> None:
    settings = {"vocab_size": 12, "embedding_size": 6, "hidden_size": 5, "classes": 2, "embedding_scale": 1.0}
    bundle = RecurrentBundle.build(4, {"architecture": architecture, **settings})
    bundle.initialise(range(4))
    members, states = [3, 0, 2], random(7, 10 if architecture == "lstm" else 5, seed=1)
    found = base_word_effects(bundle, members, states, OWNER, WORDS)
    expected = torch.zeros(3, 5, dtype=torch.float64)
    with torch.no_grad():
        for p, member in enumerate(members):
            module: Any = bundle.member(member)
            for w, word in enumerate(WORDS):
                moves = []
                for state in states[p == OWNER]:
                    parts = tuple(part.view(1, 1, 5) for part in state.split(5))
                    hidden, _ = module.recurrent(module.embedding(word).view(1, 1, 6), parts if parts[1:] else parts[0])
                    before, now = module.readout(parts[0][0, 0]), module.readout(hidden[0, 0])
                    moves.append((now[1] - now[0]) - (before[1] - before[0]))
                expected[p, w] = torch.stack(moves).double().mean()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_chunks_and_the_order_of_the_states_change_nothing(chunk: int) -> None:
    network, theta, states = model("gru"), random(3, 4), random(7, 5, seed=1)
    whole = word_effects(network, theta, states, OWNER, WORDS, "u")
    torch.testing.assert_close(word_effects(network, theta, states, OWNER, WORDS, "u", chunk=chunk), whole)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    torch.testing.assert_close(word_effects(network, theta, states[order], OWNER[order], WORDS, "u"), whole)
    for row in range(3):
        own = states[row == OWNER]
        alone = word_effects(network, theta[row : row + 1], own, torch.zeros(len(own), dtype=torch.int64), WORDS, "u")
        torch.testing.assert_close(alone[0], whole[row])


def test_effects_leave_the_network_as_it_was_and_need_no_gradient() -> None:
    network = model("gru", "weights")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = word_effects(network, random(3, 4).double().requires_grad_(), random(7, 5).double(), OWNER, WORDS, "t")
    assert not found.requires_grad
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": torch.tensor([3, 12])}, "token id 12 lies outside the vocabulary of 12 words"),
        ({"words": torch.tensor([-1])}, "token id -1 lies outside"),
        ({"task": "x"}, "no task 'x'; it knows t, u"),
        ({"positive": 3}, r"positive 3 and negative 0 must be two of the classes 0\.\.2"),
        ({"negative": 1}, "positive 1 and negative 1 must be two"),
        ({"theta": torch.zeros(3, 5)}, r"theta must be \[P, 4\], got \[3, 5\]"),
        (
            {"theta": torch.tensor([[0.0] * 4, [torch.nan] * 4, [0.0] * 4])},
            r"theta holds NaN or infinity in rows \[1\]",
        ),
        ({"states": torch.zeros(7, 10)}, r"states \[7, 10\] must be \[M, 5\]"),
        ({"owner": OWNER[:6]}, r"one owner each, got \[6\]"),
        ({"owner": OWNER + 1}, "which of the 3 networks"),
        ({"owner": OWNER.clamp(max=1)}, "no state belongs to network 2"),
    ],
)
def test_refuses_effects_that_there_are_not(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"theta": torch.zeros(3, 4), "states": torch.zeros(7, 5), "owner": OWNER, "words": WORDS}
    with pytest.raises(ValueError, match=message):
        word_effects(model("gru"), **{**given, "task": "t", **change})


def test_refuses_members_that_there_are_not() -> None:
    settings = {"architecture": "gru", "vocab_size": 12, "embedding_size": 6, "hidden_size": 5, "classes": 2}
    bundle = RecurrentBundle.build(2, settings)
    with pytest.raises(ValueError, match="no member 2 in a bundle of 2"):
        base_word_effects(bundle, [0, 1, 2], torch.zeros(7, 5), OWNER, WORDS)
    small = RecurrentBundle.build(3, {**settings, "vocab_size": 10})
    with pytest.raises(ValueError, match="token id 11 lies outside the vocabulary of 10"):
        base_word_effects(small, [0, 1, 2], torch.zeros(7, 5), OWNER, WORDS)


def test_refuses_networks_of_which_no_step_is_known() -> None:
    settings = {"architecture": "gru", "vocab_size": 12, "embedding_size": 6, "hidden_size": 5, "classes": 2}
    bundle = ModuleBundle(
        [RecurrentBundle.build(1, settings).member(0)] * 3,
        [Probe()] * 3,
        Form("tokens", (), (5,), ((),), 2, stepwise=True),
    )
    with pytest.raises(ValueError, match="need a recurrent network with a known step, not a ModuleBundle"):
        base_word_effects(bundle, [0, 1, 2], torch.zeros(7, 5), OWNER, WORDS)


def test_effects_are_ordinary_tensors() -> None:
    settings = {"architecture": "gru", "vocab_size": 12, "embedding_size": 6, "hidden_size": 5, "classes": 2}
    states = random(7, 5, seed=1)
    for found in (
        word_effects(model("gru"), random(3, 4), states, OWNER, WORDS, "t"),
        base_word_effects(RecurrentBundle.build(3, settings), [0, 1, 2], states, OWNER, WORDS),
    ):
        found.add_(1.0)  # this and autograd are refused for tensors of inference mode
        (found * torch.ones(5, requires_grad=True)).sum().backward()


def planted() -> Lexicon:
    polarity = torch.tensor([2.0, 1.5, 0.5, -3.0, -1.0, -0.25], dtype=torch.float64)
    return Lexicon(torch.arange(2, 8), polarity, torch.full((6,), 100))


def test_scores_of_planted_effects() -> None:
    signs = planted().signs
    rows = torch.stack([5 + 0.3 * signs, -2 - 7 * signs, torch.full((6,), 4.0).double(), torch.zeros(6).double()])
    assert word_scores(rows, planted()).tolist() == pytest.approx([1.0, -1.0, 0.0, 0.0], abs=1e-12)
    in_logits = word_scores(rows, planted(), standardise=False)
    assert in_logits.tolist() == pytest.approx([0.3, -7.0, 0.0, 0.0], abs=1e-12)


def test_score_is_the_correlation_of_effects_and_signs() -> None:
    effects = random(4, 6).double() + 10
    found = word_scores(effects, planted())
    expected = [np.corrcoef(row, planted().signs)[0, 1] for row in effects.numpy()]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(word_scores(3 * effects - 8, planted()), found)


def test_score_takes_rounding_for_no_difference() -> None:
    """Equal effects that were rounded in float32, in favour of the positive words."""
    effects = torch.full((1, 6), 0.1) + 1e-8 * planted().signs
    assert word_scores(effects, planted()).tolist() == [0.0]


def test_refuses_effects_of_other_words() -> None:
    with pytest.raises(ValueError, match=r"effects must be \[P, 6\], one per word, got \[2, 5\]"):
        word_scores(torch.zeros(2, 5), planted())
    effects = torch.zeros(3, 6)
    effects[1, 4] = torch.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in rows \[1\]"):
        word_scores(effects, planted())


def test_a_network_that_adds_up_valences_hears_the_whole_lexicon() -> None:
    """Hand-set: h' = tanh(v_w + theta), readout 3h. From h = 0 a word does 6 tanh(v_w + theta) to the logit."""
    network = RecurrentMetaModel(8, {"t": 2}, 1, hidden_size=1, embedding_size=1, architecture="rnn")
    valences = torch.tensor([0.0, 0.0, 0.4, 0.4, 0.4, -0.4, -0.4, -0.4])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.embedding.weight[:, 0] = valences
        network.weight_input.fill_(1.0)
        network.weight_theta.fill_(1.0)
        network.heads["t"].weight[:, 0] = torch.tensor([-3.0, 3.0])
    theta = torch.tensor([[0.0], [0.7]])
    effects = word_effects(network, theta, torch.zeros(2, 1), torch.tensor([0, 1]), planted().ids, "t")
    torch.testing.assert_close(effects, 6 * (valences[2:] + theta).tanh().double(), atol=1e-6, rtol=0)
    assert word_scores(effects, planted()).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    louder = word_scores(effects, planted(), standardise=False)
    assert louder[0] > louder[1] > 0  # at 0.7 the network is half deaf
