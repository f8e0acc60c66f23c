"""Is a member of a population trained exactly as if it were alone?"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from dynamo.population import DivergenceError, RecurrentBundle, ResidualBundle
from dynamo.population.base import last_step
from dynamo.population.optimisation import (
    adam,
    check_finite,
    check_precision,
    check_weights,
    clip_per_member,
    learning_rate_factor,
    sgd,
)
from dynamo.types import OptionError, TaskBatch

MakeBundle = Callable[..., RecurrentBundle]


def with_gradients(largest: float, members: int = 4) -> list[nn.Parameter]:
    """Stacked parameters; the gradient of member n has a size that grows with n."""
    parameters = [nn.Parameter(torch.zeros(members, *shape)) for shape in ((3, 2), (5,), (2, 2, 2))]
    for parameter in parameters:
        scale = largest * torch.arange(members).view(-1, *[1] * (parameter.dim() - 1))
        parameter.grad = scale * torch.randn_like(parameter)
    return parameters


@pytest.mark.parametrize("largest", [0.5, 1.0, 3.0])
def test_clipping_equals_torch_s_clipping_of_every_member_by_itself(largest: float) -> None:
    parameters = with_gradients(1.0)
    alone = []
    for n in range(4):
        own = [nn.Parameter(torch.zeros_like(p[n])) for p in parameters]
        for mine, stacked in zip(own, parameters, strict=True):
            assert stacked.grad is not None
            mine.grad = stacked.grad[n].clone()
        nn.utils.clip_grad_norm_(own, largest)
        alone.append(own)
    clip_per_member(parameters, largest)
    for position, stacked in enumerate(parameters):
        expected = torch.stack([own[position].grad for own in alone])  # type: ignore[misc]
        torch.testing.assert_close(stacked.grad, expected)


def test_zero_does_not_clip_and_parameters_without_gradient_are_left_out() -> None:
    parameters = with_gradients(100.0)
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    clip_per_member(parameters, 0.0)
    assert all(torch.equal(p.grad, old) for p, old in zip(parameters, before, strict=True))  # type: ignore[arg-type]
    clip_per_member([*parameters, nn.Parameter(torch.zeros(4, 2))], 1.0)
    clip_per_member([nn.Parameter(torch.zeros(4, 2))], 1.0)
    norms = torch.stack([p.grad.flatten(1).norm(dim=1) for p in parameters]).norm(dim=0)  # type: ignore[union-attr]
    torch.testing.assert_close(norms, torch.tensor([0.0, 1.0, 1.0, 1.0]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("precision", ["16-mixed", "16-true", 16])
def test_float16_is_refused(precision: str | int) -> None:
    with pytest.raises(OptionError, match="Set it to bf16-mixed or 32-true"):
        check_precision(precision)
    for fine in ("bf16-mixed", "bf16-true", "32-true", "64-true", 32):
        check_precision(fine)


def test_the_learning_rate_warms_up_and_follows_half_a_cosine() -> None:
    total, warmup = 200, 10
    factor = learning_rate_factor("cosine", total, warmup)
    for k in range(total):
        expected = min(1.0, (k + 1) / warmup) * math.cos(math.pi * k / (2 * total)) ** 2
        assert factor(k) == pytest.approx(expected, abs=1e-12)
    assert factor(0) == pytest.approx(0.1)
    assert factor(100) == pytest.approx(0.5)
    assert factor(total) == factor(total + 50) == pytest.approx(0.0, abs=1e-12)


def test_the_constant_schedule_warms_up_alone() -> None:
    factor = learning_rate_factor("constant", 50, 4)
    assert [factor(k) for k in (0, 1, 3, 4, 49, 1000)] == [0.25, 0.5, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("total", "warmup"), [(200, 20), (57, 0), (100, 45)])
def test_one_cycle_has_the_shape_of_torch_s(total: int, warmup: int) -> None:
    factor = learning_rate_factor("one_cycle", total, warmup)
    rise = max(warmup, round(0.3 * total))
    for k in range(rise):
        assert factor(k) == pytest.approx((k + 1) / rise)
    assert factor(rise - 1) == 1.0
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(  # one step longer: its last one has no rate left
        optimizer, 1.0, total_steps=total + 1, pct_start=rise / (total + 1), final_div_factor=1e12, cycle_momentum=False
    )
    for k in range(total):
        if k >= rise:
            assert factor(k) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()
    assert factor(total) == factor(total + 9) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "constant", "one_cycle"])
def test_no_warm_up_begins_at_the_full_rate(schedule: str) -> None:
    assert learning_rate_factor(schedule, 0, 0)(0) == 1.0  # type: ignore[arg-type]


def test_adam_takes_options_per_group() -> None:
    one, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = adam(({"params": [p], **options} for p, options in ((one, {}), (other, {"lr": 0.5}))), 0.1)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.1, 0.0), (0.5, 0.0)]
    (one + other).backward()
    optimizer.step()
    assert (float(one.detach()), float(other.detach())) == pytest.approx((0.9, 0.5))  # Adam's first step is lr


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_nesterov_s_with_decay_in_the_gradient(momentum: float) -> None:
    parameter = nn.Parameter(torch.tensor([2.0, -1.0]))
    weights, speed, lr, decay = parameter.detach().clone(), torch.zeros(2), 0.1, 0.01
    optimizer = sgd([{"params": [parameter], "weight_decay": decay}], lr, momentum)
    for gradient in (torch.tensor([1.0, 3.0]), torch.tensor([-2.0, 0.5]), torch.tensor([0.0, 1.0])):
        parameter.grad = gradient.clone()
        optimizer.step()
        pull = gradient + decay * weights
        speed = momentum * speed + pull
        weights = weights - lr * (pull + momentum * speed)
        torch.testing.assert_close(parameter.detach(), weights)


def test_the_culprits_are_named() -> None:
    names = ["a", "b", "c", "d"]
    check_finite(torch.tensor([1.0, -2.0, 1e30, 0.0]), names, 3, "")
    with pytest.raises(DivergenceError, match=r"^The loss of b, d is no longer finite at step 3. Sleep.$"):
        check_finite(torch.tensor([1.0, math.nan, 0.0, -math.inf]), names, 3, "Sleep.")


def stacked_weights() -> dict[str, torch.Tensor]:
    """Of three members: matrices, vectors, scalars, and whole numbers."""
    return {
        "matrix": torch.randn(3, 4, 5),
        "vector": torch.full((3, 2), 1e38),  # their sum is not finite, they are
        "scalar": torch.randn(3),
        "count": torch.arange(3),
    }


def test_finite_weights_pass() -> None:
    check_weights(stacked_weights(), ["a", "b", "c"], 3, "")
    check_weights(stacked_weights(), [], 3, "")
    check_weights({"empty": torch.zeros(0, 2), "single": torch.tensor(1.0)}, ["a"], 3, "")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_members_with_broken_weights_are_named_in_order(value: float) -> None:
    weights = stacked_weights()
    weights["scalar"][0] = value
    with pytest.raises(DivergenceError, match=r"^The weights of a are no longer finite at step 3. Sleep.$"):
        check_weights(weights, ["a", "b", "c"], 3, "Sleep.")
    weights["matrix"][2, 3, 1] = value
    with pytest.raises(DivergenceError, match=r"^The weights of a, c are no longer finite at step 3. Sleep.$"):
        check_weights(weights, ["a", "b", "c"], 3, "Sleep.")


def test_weights_of_no_member_are_named_themselves() -> None:
    weights = {"head.weight": torch.randn(2, 3), "head.bias": torch.tensor(math.nan), "body": torch.randn(4)}
    for names in ([], ["a", "b"]):  # two rows, and yet no member is to blame
        with pytest.raises(DivergenceError, match=r"^The weights head.bias are no longer finite at step 8. Sleep.$"):
            check_weights(weights, names, 8, "Sleep.")
    weights["body"][1] = math.inf
    with pytest.raises(DivergenceError, match=r"The weights head.bias, body are"):
        check_weights(weights, [], 8, "")


@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn", "resnet"])
def test_a_bundle_s_weights_belong_to_its_members(make_bundle: MakeBundle, kind: str) -> None:
    names = ["a", "b", "c"]
    images = ResidualBundle(3, [4, 5, 6, 7], [1, 1, 1, 1], 4)
    bundle = images if kind == "resnet" else make_bundle(3, architecture=kind)
    for name in bundle.state_dict():
        check_weights(bundle.state_dict(), names, 0, "")
        tensor = bundle.get_buffer_or_parameter(name).detach()
        kept = tensor.clone()
        tensor[1].fill_(math.nan)
        with pytest.raises(DivergenceError, match=r"^The weights of b are"):
            check_weights(bundle.state_dict(), names, 0, "")
        tensor.copy_(kept)


@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn"])
def test_a_stacked_population_trains_like_its_members_alone(make_bundle: MakeBundle, kind: str) -> None:
    members, items, steps, lr, decay, clip = 3, 8, 10, 0.01, 0.1, 0.25
    bundle = make_bundle(members, architecture=kind)
    modules = [bundle.member(index) for index in range(members)]
    batches = [
        TaskBatch(
            torch.randint(1, 11, (members, items, 6)),
            torch.randint(0, 2, (members, items)),
            torch.randint(1, 7, (members, items)),
        )
        for _ in range(steps)
    ]
    stacked = adam([{"params": list(bundle.parameters()), "weight_decay": decay}], lr)
    clipped = 0
    for batch in batches:
        logits = last_step(bundle(batch).output, batch.lengths)
        losses = nnf.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        stacked.zero_grad()
        losses.view(members, items).mean(1).sum().backward()
        clip_per_member(bundle.parameters(), clip)
        stacked.step()
    for index, module in enumerate(modules):
        optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=decay)
        for batch in batches:
            _, logits = module(batch.inputs[index])
            answer = logits[torch.arange(items), batch.lengths[index] - 1]
            optimizer.zero_grad()
            nnf.cross_entropy(answer, batch.targets[index]).backward()
            clipped += int(nn.utils.clip_grad_norm_(module.parameters(), clip) > clip)
            optimizer.step()
    assert clipped > members  # the test would see nothing of the clipping otherwise
    alone, start = RecurrentBundle.from_modules(modules), make_bundle(members, architecture=kind)
    for name, tensor in bundle.state_dict().items():
        torch.testing.assert_close(tensor, alone.state_dict()[name], rtol=1e-5, atol=2e-5)
        assert float((tensor - start.state_dict()[name]).abs().max()) > 0.01, name
