"""Is the meta-model the network its docstring says, at every point of the map?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynamo.meta import RecurrentMetaModel, recurrent
from dynamo.population.base import last_step

KINDS = ("gru", "lstm", "rnn")
WAYS = ("input", "weights")
LAYERS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
P, B, T, S, E, D = 3, 4, 6, 5, 3, 2


def model(kind: str = "gru", way: str = "input", **options: Any) -> RecurrentMetaModel:  # noqa: ANN401
    return RecurrentMetaModel(
        11, {"one": 2, "two": 4}, D, S, E, architecture=kind, conditioning=way, embedding_scale=1.0, **options
    )


def tokens() -> Tensor:
    return torch.randint(0, 11, (B, T))


def concatenated(meta: RecurrentMetaModel, theta: Tensor) -> nn.RNNBase:
    """The layer of torch that reads [x, theta]; at `theta`, where the recurrent weights depend on it."""
    layer = LAYERS[meta.architecture](E + D, S, batch_first=True)
    state = meta.weight_state
    if meta.weight_state_theta is not None:
        state = state + sum(float(theta[d]) * meta.weight_state_theta[d] for d in range(D))
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.cat([meta.weight_input, meta.weight_theta], dim=1))
        layer.bias_ih_l0.copy_(meta.bias_input)
        layer.weight_hh_l0.copy_(state)
        layer.bias_hh_l0.copy_(meta.bias_state)
    return layer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_network_that_reads_word_and_theta_side_by_side(kind: str, way: str) -> None:
    meta, theta, inputs = model(kind, way), torch.randn(P, D), tokens()
    (hidden,), output = meta(theta, inputs, "two")
    assert (hidden.shape, output.shape) == ((P, B, T, S), (P, B, T, 4))
    words = meta.embedding(inputs)
    for p in range(P):
        both = torch.cat([words, theta[p].expand(B, T, D)], dim=-1)
        states, _ = concatenated(meta, theta[p])(both)
        torch.testing.assert_close(hidden[p], states, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(output[p], meta.heads["two"](states), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_concatenated_network(kind: str) -> None:
    meta, theta, inputs = model(kind), torch.randn(P, D, requires_grad=True), tokens()
    meta(theta, inputs, "one").hidden[0].square().sum().backward()
    layer, points = concatenated(meta, theta), theta.detach().clone().requires_grad_()
    words = meta.embedding(inputs).detach()
    both = torch.cat([words.expand(P, B, T, E), points[:, None, None].expand(P, B, T, D)], dim=-1)
    layer(both.flatten(0, 1))[0].square().sum().backward()
    assert meta.weight_input.grad is not None
    assert meta.weight_theta.grad is not None
    found = {
        "theta": (theta.grad, points.grad),
        "input": (torch.cat([meta.weight_input.grad, meta.weight_theta.grad], dim=1), layer.weight_ih_l0.grad),
        "state": (meta.weight_state.grad, layer.weight_hh_l0.grad),
        "bias": (meta.bias_input.grad, layer.bias_ih_l0.grad),
        "bias of the state": (meta.bias_state.grad, layer.bias_hh_l0.grad),
    }
    for name, (mine, theirs) in found.items():
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_at_zero_both_ways_of_conditioning_are_one_network(kind: str) -> None:
    weights, simple, inputs = model(kind, "weights"), model(kind), tokens()
    missing, extra = simple.load_state_dict(weights.state_dict(), strict=False)
    assert (missing, extra) == ([], ["weight_state_theta"])
    for theta, same in ((torch.zeros(P, D), True), (torch.ones(P, D), False)):
        one, other = weights(theta, inputs, "one").output, simple(theta, inputs, "one").output
        assert torch.allclose(one, other, atol=1e-5) is same


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_point_does_not_see_the_others(kind: str, way: str) -> None:
    meta, theta, inputs = model(kind, way), torch.randn(P, D), tokens()
    together = meta(theta, inputs, "one")
    for p in range(P):
        alone = meta(theta[p : p + 1], inputs, "one")
        torch.testing.assert_close(together.hidden[0][p], alone.hidden[0][0])
        torch.testing.assert_close(together.output[p], alone.output[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_states_of_what_was_prepared_once(kind: str, way: str) -> None:
    meta, theta, inputs = model(kind, way), torch.randn(P, D), tokens()
    prepared, trajectory = meta.prepare(inputs), meta(theta, inputs, "two")
    assert prepared.shape[:3] == (1, T, B)
    assert torch.equal(meta.states(theta, prepared).transpose(1, 2), trajectory.hidden[0])
    torch.testing.assert_close(meta.read_out(trajectory.hidden[0], "two"), trajectory.output)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_what_forward_says_at_the_last_real_step(
    kind: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta, theta, inputs = model(kind, way), torch.randn(P, D), tokens()
    prepared, everything = meta.prepare(inputs), meta(theta, inputs, "two").output
    for lengths in (torch.tensor([3, 1, 6, 3]), torch.tensor([2, 2, 4, 1])):  # the second ends before T
        wanted = last_step(everything, lengths)
        for cached in (recurrent.CACHED_GATES, 1):  # all points at once, and one by one
            monkeypatch.setattr(recurrent, "CACHED_GATES", cached)
            found = meta.answers(theta.double(), prepared, lengths, "two")
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
            assert not found.requires_grad


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_answers_at_full_size_are_those_of_forward(kind: str, way: str) -> None:
    """With the same bits on some processors, and not on all: their libraries multiply rows in groups."""
    meta = RecurrentMetaModel(11, {"one": 2}, D, 128, E, kind, way, embedding_scale=1.0)  # type: ignore[arg-type]
    theta, inputs, lengths = torch.randn(P, D), tokens(), torch.tensor([3, 1, 6, 3])
    with torch.no_grad():
        wanted = torch.cat([last_step(meta(point, inputs, "one").output, lengths) for point in theta.split(1)])
    found = meta.answers(theta, meta.prepare(inputs), lengths, "one")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("lengths", "match"),
    [
        ([3, 0, 6, 3], "between 1 and the 6 steps, got 0 to 6"),
        ([3, 1, 7, 3], "between 1 and the 6 steps, got 1 to 7"),
        ([3, 1, 6], r"lengths must be \[4\], .* got \[3\]"),
    ],
)
def test_answers_after_steps_that_there_are_not_are_refused(lengths: list[int], match: str) -> None:
    meta = model()
    with pytest.raises(ValueError, match=match):
        meta.answers(torch.randn(P, D), meta.prepare(tokens()), torch.tensor(lengths), "one")


def test_answers_to_no_item_are_refused() -> None:
    meta = model()
    with pytest.raises(ValueError, match="1 item at least"):
        meta.answers(torch.randn(P, D), meta.prepare(tokens())[:, :, :0], torch.zeros(0, dtype=torch.long), "one")


def test_it_says_what_it_knows() -> None:
    assert (model().classes, model().vocabulary) == ({"one": 2, "two": 4}, 11)


@pytest.mark.parametrize("way", WAYS)
def test_state_weights_are_those_at_the_points(way: str) -> None:
    meta, theta = model(way=way), torch.randn(P, D)
    weight, bias = meta.state_weights(theta)
    assert weight.shape == (P if way == "weights" else 1, 3 * S, S)
    for p in range(P):
        layer = concatenated(meta, theta[p])
        torch.testing.assert_close(weight.expand(P, -1, -1)[p], layer.weight_hh_l0)
        torch.testing.assert_close(bias.expand(P, -1)[p], layer.bias_hh_l0)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_a_point_have_the_same_bits_alone(kind: str) -> None:
    meta = RecurrentMetaModel(11, {"one": 2}, D, 32, E, architecture=kind, embedding_scale=1.0)  # type: ignore[arg-type]
    theta, inputs, lengths = torch.randn(P, D), tokens(), torch.tensor([3, 1, 6, 3])
    together = meta.answers(theta, meta.prepare(inputs), lengths, "one")
    for p in range(P):
        assert torch.equal(together[p], meta.answers(theta[p : p + 1], meta.prepare(inputs), lengths, "one")[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_step_after_step_is_forward(kind: str, way: str) -> None:
    meta, theta, inputs = model(kind, way), torch.randn(P, D), tokens()
    trajectory = meta(theta, inputs, "one")
    state = tuple(torch.zeros(P, B, S) for _ in range(2 if kind == "lstm" else 1))
    for t in range(T):
        state = meta.step(theta, meta.embedding(inputs[:, t]).expand(P, B, E), state)
        torch.testing.assert_close(state[0], trajectory.hidden[0][:, :, t], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(meta.read_out(state[0], "one"), trajectory.output[:, :, t], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_step_is_twice_differentiable(way: str) -> None:
    meta, words = model(way=way).double(), torch.randn(P, B, E, dtype=torch.double)
    state = torch.randn(P, B, S, dtype=torch.double, requires_grad=True)
    theta = torch.randn(P, D, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda s, th: meta.step(th, words, (s,))[0], (state, theta))


def test_padding_on_the_right_does_not_reach_back() -> None:
    meta, theta, inputs = model(), torch.randn(P, D), tokens()
    changed = inputs.clone()
    changed[:, 4:] = 0
    one, other = meta(theta, inputs, "one"), meta(theta, changed, "one")
    assert torch.equal(one.output[:, :, :4], other.output[:, :, :4])


def test_every_task_has_a_head_of_its_own() -> None:
    meta, theta, inputs = model(), torch.randn(P, D), tokens()
    one, two = meta(theta, inputs, "one"), meta(theta, inputs, "two")
    assert torch.equal(one.hidden[0], two.hidden[0])
    assert (one.output.shape[-1], two.output.shape[-1]) == (2, 4)
    with pytest.raises(KeyError, match="three"):
        meta(theta, inputs, "three")
