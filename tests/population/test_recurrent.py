"""Is a bundle of N the same as N ordinary modules, forward and backward?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dynamo.population import RecurrentBundle, RecurrentClassifier
from dynamo.population.recurrence import GATES
from dynamo.population.recurrent import look_up
from dynamo.types import TaskBatch

MakeBundle = Callable[..., RecurrentBundle]
KINDS = ("gru", "lstm", "rnn")
N, B, T = 3, 4, 7


def items(*leading: int, vocabulary: int = 11) -> TaskBatch:
    """Random reviews `[..., B, T]`, padded on the right with 0."""
    lengths = torch.randint(1, T + 1, (*leading, B))
    tokens = torch.randint(1, vocabulary, (*leading, B, T))
    tokens = tokens.masked_fill(torch.arange(T) >= lengths.unsqueeze(-1), 0)
    return TaskBatch(tokens, torch.randint(0, 2, (*leading, B)), lengths)


def of_member(batch: TaskBatch, index: int) -> TaskBatch:
    return batch if batch.inputs.dim() == 2 else TaskBatch(*(values[index] for values in batch))


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """1e-5 of the largest entry."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


def loss_of(hidden: Tensor, output: Tensor, mask: Tensor) -> Tensor:
    """Some function of every state and logit at real steps."""
    return (hidden.square().sum(-1) + output.sin().sum(-1))[mask].sum()


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_separate_modules(make_bundle: MakeBundle, kind: str, own: bool) -> None:
    bundle = make_bundle(N, architecture=kind)
    batch = items(N) if own else items()
    trajectory = bundle(batch)
    (hidden,), output = trajectory
    assert (hidden.shape, output.shape) == ((N, B, T, 5), (N, B, T, 2))
    mask = batch.real_steps().expand(N, B, T)
    loss_of(hidden, output, mask).backward()
    for index in range(N):
        module, part = bundle.member(index), of_member(batch, index)
        own_hidden, own_output = module(part.inputs)
        real = part.real_steps()
        assert_close(hidden[index][real], own_hidden[real])
        assert_close(output[index][real], own_output[real])
        loss_of(own_hidden, own_output, real).backward()
        layer = module.recurrent
        pairs = {
            "embedding": module.embedding.weight,
            "weight_ih": layer.weight_ih_l0,
            "weight_hh": layer.weight_hh_l0,
            "bias_ih": layer.bias_ih_l0,
            "bias_hh": layer.bias_hh_l0,
            "readout_weight": module.readout.weight,
            "readout_bias": module.readout.bias,
        }
        assert set(pairs) == {name for name, _ in bundle.named_parameters()}
        for name, parameter in pairs.items():
            stacked, alone = bundle.get_parameter(name).grad, parameter.grad
            assert stacked is not None
            assert alone is not None
            assert_close(stacked[index], alone)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_select_runs_those_members_alone(make_bundle: MakeBundle, own: bool) -> None:
    bundle, select = make_bundle(N), torch.tensor([2, 0])
    batch = items(2) if own else items()
    chosen = bundle(batch, select)
    for position, index in enumerate(select.tolist()):
        hidden, output = bundle.member(index)(of_member(batch, position).inputs)
        assert_close(chosen.hidden[0][position], hidden)
        assert_close(chosen.output[position], output)


@pytest.mark.parametrize("kind", KINDS)
def test_modules_become_a_bundle_and_modules_again(make_bundle: MakeBundle, kind: str) -> None:
    bundle = make_bundle(N, architecture=kind)
    modules = [bundle.member(index) for index in range(N)]
    again = RecurrentBundle.from_modules(modules)
    assert {**again.settings, "embedding_scale": 1.0} == bundle.settings
    for name, stacked in bundle.state_dict().items():
        assert torch.equal(again.state_dict()[name], stacked), name
    for index, module in enumerate(modules):
        assert isinstance(module, RecurrentClassifier)
        for name, tensor in again.member(index).state_dict().items():
            assert torch.equal(tensor, module.state_dict()[name]), name


def test_a_member_has_its_own_copy_of_the_weights(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(2)
    before = bundle.weight_hh.detach().clone()
    with torch.no_grad():
        bundle.member(0).recurrent.weight_hh_l0.fill_(9.0)
    assert torch.equal(bundle.weight_hh, before)


def test_modules_of_different_architectures_or_sizes_are_refused() -> None:
    sizes = (11, 3, 5, 2)
    with pytest.raises(ValueError, match="Module 1 is a rnn, module 0 a gru"):
        RecurrentBundle.from_modules([RecurrentClassifier("gru", *sizes), RecurrentClassifier("rnn", *sizes)])
    with pytest.raises(ValueError, match=r"Module 1 has a tensor of shape \[18, 3\] where module 0 has \[15, 3\]"):
        RecurrentBundle.from_modules([RecurrentClassifier("gru", *sizes), RecurrentClassifier("gru", 11, 3, 6, 2)])


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_weights_depend_on_the_member_s_seed_alone(make_bundle: MakeBundle, kind: str) -> None:
    crowd, alone = make_bundle(4, architecture=kind), make_bundle(1, seed=2, architecture=kind)
    for name, stacked in crowd.state_dict().items():
        assert torch.equal(stacked[2], alone.state_dict()[name][0]), name
        assert not torch.equal(stacked[0], stacked[1]), name


def test_fresh_weights_do_not_touch_the_global_generator(make_bundle: MakeBundle) -> None:
    state = torch.get_rng_state()
    make_bundle(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_fresh_weights_follow_torch_s_distributions(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(2, vocab_size=500, embedding_size=40, hidden_size=64, embedding_scale=0.1)
    for name, stacked in bundle.state_dict().items():
        if name == "embedding":
            assert float(stacked.std()) == pytest.approx(0.1, rel=0.02)
        else:
            assert float(stacked.abs().max()) <= 64**-0.5
    assert float(bundle.weight_hh.detach().std()) == pytest.approx(64**-0.5 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_permuting_the_hidden_units_of_a_member_leaves_its_function_as_it_was(
    make_bundle: MakeBundle, kind: str
) -> None:
    bundle, batch = make_bundle(1, architecture=kind), items()
    module, permuted = bundle.member(0), bundle.member(0)
    size = bundle.hidden_sizes[0]
    order = torch.randperm(size)
    rows = torch.cat([gate * size + order for gate in range(GATES[kind])])
    with torch.no_grad():
        layer, own = permuted.recurrent, module.recurrent
        layer.weight_ih_l0.copy_(own.weight_ih_l0[rows])
        layer.bias_ih_l0.copy_(own.bias_ih_l0[rows])
        layer.weight_hh_l0.copy_(own.weight_hh_l0[rows][:, order])
        layer.bias_hh_l0.copy_(own.bias_hh_l0[rows])
        permuted.readout.weight.copy_(module.readout.weight[:, order])
    both = RecurrentBundle.from_modules([module, permuted])(batch)
    assert_close(both.output[1], both.output[0])
    assert_close(both.hidden[0][1], both.hidden[0][0][..., order])


def test_look_up_is_every_member_s_own_table() -> None:
    tables = torch.randn(N, 11, 3)
    shared, own = torch.randint(0, 11, (B, T)), torch.randint(0, 11, (N, B, T))
    for tokens in (shared.expand(N, B, T), own):
        expected = torch.stack([nn.functional.embedding(t.T, table) for t, table in zip(tokens, tables, strict=True)])
        assert torch.equal(look_up(tokens, tables), expected)
    assert torch.equal(look_up(shared, tables), look_up(shared.expand(N, B, T), tables))


def test_sizes_are_reported(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(2, hidden_size=9, classes=4)
    assert (bundle.hidden_sizes, bundle.classes, bundle.count) == ((9,), 4, 2)
    assert RecurrentBundle.build(5, bundle.settings).settings == bundle.settings
