"""The batched recurrence is N separate recurrent networks: same states, same gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dynamo.population.recurrence import GATES, Kind, project, scan, step, unroll

KINDS: tuple[Kind, ...] = ("gru", "lstm", "rnn")
TORCH = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
NAMES = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")

State = tuple[Tensor, ...]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def modules(kind: Kind, n: int, e: int, h: int) -> list[nn.RNNBase]:
    return [TORCH[kind](e, h) for _ in range(n)]


def stacked(members: list[nn.RNNBase]) -> list[Tensor]:
    return [torch.stack([m.get_parameter(name).detach() for m in members]).requires_grad_() for name in NAMES]


def random_state(kind: Kind, n: int, b: int, h: int, dtype: torch.dtype = torch.float32) -> State:
    return tuple(torch.randn(n, b, h, dtype=dtype).requires_grad_() for _ in range(2 if kind == "lstm" else 1))


def separate(members: list[nn.RNNBase], inputs: Tensor, state: State | None) -> Tensor:
    """Each module by itself on its own inputs [N, T, B, E]."""
    hidden = []
    for k, member in enumerate(members):
        own = None if state is None else tuple(s[k : k + 1] for s in state)
        hidden.append(member(inputs[k], own[0] if own is not None and len(own) == 1 else own)[0])
    return torch.stack(hidden)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Relative to the largest entry: an entry that cancels to nothing carries the rounding of its summands."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * max(1e-3, float(expected.detach().abs().max())))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given_state", [False, True])
@pytest.mark.parametrize(
    ("n", "t", "b", "e", "h"), [(1, 6, 4, 3, 5), (4, 1, 3, 2, 6), (3, 20, 1, 7, 8), (2, 5, 4, 3, 1), (5, 40, 8, 16, 32)]
)
def test_equals_separate_modules_forward_and_backward(
    kind: Kind, given_state: bool, n: int, t: int, b: int, e: int, h: int
) -> None:
    members = modules(kind, n, e, h)
    inputs = torch.randn(n, t, b, e, requires_grad=True)
    state = random_state(kind, n, b, h) if given_state else None
    leaves = [inputs, *(state or ())]
    weight_ih, bias_ih, weight_hh, bias_hh = parameters = stacked(members)

    hidden = scan(kind, project(inputs, weight_ih, bias_ih), weight_hh, bias_hh, state)
    expected = separate(members, inputs, state)
    assert hidden.shape == (n, t, b, h)
    assert_close(hidden, expected)

    probe = torch.randn_like(expected)
    own = [m.get_parameter(name) for name in NAMES for m in members]
    wanted = torch.autograd.grad((expected * probe).sum(), [*leaves, *own])
    found = torch.autograd.grad((hidden * probe).sum(), [*leaves, *parameters])
    for actual, gradient in zip(found[: len(leaves)], wanted[: len(leaves)], strict=True):
        assert_close(actual, gradient)
    for k, actual in enumerate(found[len(leaves) :]):
        first = len(leaves) + k * n
        assert_close(actual, torch.stack(wanted[first : first + n]))


@pytest.mark.parametrize("kind", KINDS)
def test_common_inputs_are_the_same_inputs_for_every_member(kind: Kind) -> None:
    weight_ih, bias_ih, *_ = stacked(modules(kind, 3, 5, 4))
    common = torch.randn(6, 2, 5)
    expected = project(common.expand(3, -1, -1, -1), weight_ih, bias_ih)
    actual = project(common, weight_ih, bias_ih)
    assert actual.shape == (3, 6, 2, 4 * GATES[kind])
    assert_close(actual, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("given_state", [False, True])
def test_unroll_is_project_and_scan(kind: Kind, common: bool, given_state: bool) -> None:
    weight_ih, bias_ih, weight_hh, bias_hh = parameters = stacked(modules(kind, 3, 5, 4))
    inputs = torch.randn(*([] if common else [3]), 6, 2, 5, requires_grad=True)
    state = random_state(kind, 3, 2, 4) if given_state else None
    leaves = [inputs, *parameters, *(state or ())]
    expected = scan(kind, project(inputs, weight_ih, bias_ih), weight_hh, bias_hh, state)
    actual = unroll(kind, inputs, *parameters, state)
    assert_close(actual, expected)
    probe = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * probe).sum(), leaves)
    for gradient, other in zip(torch.autograd.grad((actual * probe).sum(), leaves), wanted, strict=True):
        assert_close(gradient, other)
    with torch.inference_mode():
        assert_close(unroll(kind, inputs, *parameters, state), expected.detach())


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_the_right_changes_no_real_step(kind: Kind) -> None:
    n, t, e, h = 3, 9, 4, 5
    lengths = [9, 1, 4, 6]
    members = modules(kind, n, e, h)
    inputs = torch.randn(n, t, len(lengths), e)
    weight_ih, bias_ih, weight_hh, bias_hh = stacked(members)
    hidden = scan(kind, project(inputs, weight_ih, bias_ih), weight_hh, bias_hh)
    for k, member in enumerate(members):
        packed = nn.utils.rnn.pack_padded_sequence(inputs[k], torch.tensor(lengths), enforce_sorted=False)
        expected, _ = nn.utils.rnn.pad_packed_sequence(member(packed)[0])
        for item, length in enumerate(lengths):
            assert_close(hidden[k, :length, item], expected[:length, item])


@pytest.mark.parametrize("kind", KINDS)
def test_backward_matches_finite_differences(kind: Kind) -> None:
    n, t, b, h = 2, 3, 2, 3
    width = GATES[kind] * h
    shapes = (n, t, b, width), (n, width, h), (n, width)
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    state = random_state(kind, n, b, h, torch.float64)

    def flat(projected: Tensor, weight: Tensor, bias: Tensor, *initial: Tensor) -> Tensor:
        return scan(kind, projected, weight, bias, initial)

    assert torch.autograd.gradcheck(flat, (*arguments, *state))


@pytest.mark.parametrize("kind", KINDS)
def test_scan_is_repeated_step_forward_and_backward(kind: Kind) -> None:
    n, t, b, h = 3, 7, 4, 5
    width = GATES[kind] * h
    projected, weight, bias = arguments = [
        torch.randn(shape, requires_grad=True) for shape in ((n, t, b, width), (n, width, h), (n, width))
    ]
    initial = random_state(kind, n, b, h)
    state, hidden = initial, []
    for now in projected.unbind(1):
        state = step(kind, now, weight, bias, state)
        assert len(state) == len(initial)
        hidden.append(state[0])
    stepped, scanned = torch.stack(hidden, dim=1), scan(kind, projected, weight, bias, initial)
    assert_close(scanned, stepped)
    probe = torch.randn_like(stepped)
    leaves = [*arguments, *initial]
    wanted = torch.autograd.grad((stepped * probe).sum(), leaves)
    for actual, expected in zip(torch.autograd.grad((scanned * probe).sum(), leaves), wanted, strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_step_has_second_derivatives_and_batched_jacobians(kind: Kind) -> None:
    n, b, h = 2, 3, 2
    width = GATES[kind] * h
    projected, weight, bias = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((n, b, width), (n, width, h), (n, width))
    )
    state = random_state(kind, n, b, h, torch.float64)
    assert torch.autograd.gradgradcheck(lambda *s: step(kind, projected, weight, bias, s), state)

    def alone(x: Tensor, w: Tensor, v: Tensor, *s: Tensor) -> Tensor:
        """One member, one item: a vector of states in, the next hidden state out."""
        lifted = tuple(part[None, None] for part in s)
        return step(kind, x[None, None], w[None], v[None], lifted)[0][0, 0]

    over_items = torch.func.vmap(torch.func.jacrev(alone, argnums=3), in_dims=(0, None, None, *[0] * len(state)))
    jacobians = torch.func.vmap(over_items)(projected, weight, bias, *state)
    new = step(kind, projected, weight, bias, state)[0]
    for unit in range(h):
        (row,) = torch.autograd.grad(new[..., unit].sum(), state[0], retain_graph=True)
        torch.testing.assert_close(jacobians[:, :, unit], row)


def test_gru_with_its_update_gate_open_holds_the_initial_state() -> None:
    bias = torch.tensor([[0.0, 0.0, 100.0, 100.0, 0.0, 0.0]])  # r, z, n of two units: z = 1
    start = torch.tensor([[[0.3, -0.7]]])
    hidden = scan("gru", torch.randn(1, 10, 1, 6), torch.randn(1, 6, 2), bias, (start,))
    torch.testing.assert_close(hidden, start.unsqueeze(1).expand(1, 10, 1, 2))


def test_gru_without_weights_goes_half_of_the_way_at_every_step() -> None:
    steps, target = 8, 0.5
    projected = torch.tensor([0.0, 0.0, math.atanh(target)]).expand(1, steps, 1, 3)  # z = 1/2, n = target
    hidden = scan("gru", projected, torch.zeros(1, 3, 1), torch.zeros(1, 3)).flatten()
    expected = target * (1 - 0.5 ** torch.arange(1, steps + 1))
    torch.testing.assert_close(hidden, expected)


def test_gru_reset_gate_covers_the_recurrent_bias_of_the_new_gate() -> None:
    closed = torch.tensor([-100.0, -100.0, 0.25]).expand(1, 1, 1, 3)  # r = 0, z = 0
    bias = torch.tensor([[0.0, 0.0, 5.0]])
    hidden = scan("gru", closed, torch.zeros(1, 3, 1), bias)
    torch.testing.assert_close(hidden.flatten(), torch.tanh(torch.tensor([0.25])))


def test_lstm_with_open_gates_counts_the_steps() -> None:
    projected = torch.full((1, 6, 1, 4), 100.0)  # i = f = g = o = 1: the cell counts
    hidden = scan("lstm", projected, torch.zeros(1, 4, 1), torch.zeros(1, 4)).flatten()
    torch.testing.assert_close(hidden, torch.tanh(torch.arange(1.0, 7.0)))


def test_rnn_that_swaps_its_units_has_period_two() -> None:
    gain, amplitude = 2.0, 0.957504024  # amplitude = tanh(gain * amplitude)
    weight = gain * torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    start = amplitude * torch.tensor([[[1.0, -1.0]]])
    hidden = scan("rnn", torch.zeros(1, 5, 1, 2), weight, torch.zeros(1, 2), (start,))
    signs = torch.tensor([-1.0, 1.0, -1.0, 1.0, -1.0])
    torch.testing.assert_close(hidden[0, :, 0], amplitude * torch.stack([signs, -signs], dim=-1))


@pytest.mark.parametrize("kind", KINDS)
def test_permuting_hidden_units_permutes_the_states(kind: Kind) -> None:
    n, t, b, h, gates = 2, 6, 3, 7, GATES[kind]
    projected, weight, bias = torch.randn(n, t, b, gates * h), torch.randn(n, gates * h, h), torch.randn(n, gates * h)
    order = torch.randperm(h)
    rows = torch.cat([gate * h + order for gate in range(gates)])
    hidden = scan(kind, projected, weight, bias)
    permuted = scan(kind, projected[..., rows], weight[:, rows][..., order], bias[:, rows])
    assert_close(permuted, hidden[..., order])


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_does_not_see_the_others(kind: Kind) -> None:
    width = 4 * GATES[kind]
    projected, weight, bias = torch.randn(3, 5, 2, width), torch.randn(3, width, 4), torch.randn(3, width)
    hidden = scan(kind, projected, weight, bias)
    assert_close(scan(kind, projected[1:2], weight[1:2], bias[1:2]), hidden[1:2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_graph_is_kept_where_none_is_wanted(kind: Kind, mode: type) -> None:
    width = 4 * GATES[kind]
    projected, weight, bias = (
        torch.randn(s, requires_grad=True) for s in ((2, 5, 3, width), (2, width, 4), (2, width))
    )
    expected = scan(kind, projected, weight, bias)
    assert expected.grad_fn is not None
    packed: list[Tensor] = []
    with mode(), torch.autograd.graph.saved_tensors_hooks(lambda x: packed.append(x) or x, lambda x: x):
        hidden = scan(kind, projected, weight, bias)
    assert not packed
    assert hidden.grad_fn is None
    torch.testing.assert_close(hidden, expected.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_may_run_twice_on_one_graph(kind: Kind) -> None:
    width = 4 * GATES[kind]
    leaves = [torch.randn(s, requires_grad=True) for s in ((2, 5, 3, width), (2, width, 4), (2, width))]
    loss = scan(kind, *leaves).square().sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    for once, again in zip(first, torch.autograd.grad(loss, leaves), strict=True):
        torch.testing.assert_close(once, again, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_layout_does_not_matter(kind: Kind) -> None:
    n, t, b, h = 3, 5, 4, 6
    width = GATES[kind] * h
    leaves = [torch.randn(s) for s in ((n, t, b, width), (n, width, h), (n, width))] + [
        s.detach() for s in random_state(kind, n, b, h)
    ]
    probe = torch.randn(n, t, b, h)

    def run(tensors: list[Tensor], weights: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        tensors = [x.requires_grad_() for x in tensors]
        hidden = scan(kind, *tensors[:3], tuple(tensors[3:]))
        return hidden, torch.autograd.grad((hidden * weights).sum(), tensors)

    transposed = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in leaves]
    hidden, wanted = run([x.clone() for x in leaves], probe)
    strided, found = run(transposed, probe.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0))
    assert_close(strided, hidden)
    for actual, expected in zip(found, wanted, strict=True):
        assert_close(actual, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_device_gives_the_same_states_and_gradients(kind: Kind) -> None:
    width = 16 * GATES[kind]
    leaves = [torch.randn(s, requires_grad=True) for s in ((3, 9, 4, width), (3, width, 16), (3, width))]
    hidden = scan(kind, *leaves)
    moved = [x.detach().cuda().requires_grad_() for x in leaves]
    on_device = scan(kind, *moved)
    assert_close(on_device.cpu(), hidden)
    wanted = torch.autograd.grad(hidden.square().sum(), leaves)
    for actual, expected in zip(torch.autograd.grad(on_device.square().sum(), moved), wanted, strict=True):
        assert_close(actual.cpu(), expected)
