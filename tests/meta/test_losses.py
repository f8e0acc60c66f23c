"""Are the losses what their formulas say, and blind to padding?"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from dynamo.meta.losses import Distance, hidden_distance, hidden_loss, masked_mean, output_loss
from dynamo.types import TaskBatch

N, B, T, H, C = 3, 4, 6, 5, 3
LENGTHS = torch.tensor([6, 1, 4, 3])
BATCH = TaskBatch(torch.ones(B, T, dtype=torch.long), torch.zeros(B), LENGTHS)
MASK = BATCH.real_steps()
ONES = torch.ones(N)
KINDS: tuple[Distance, ...] = ("l2", "l1")


def real(values: Tensor, n: int) -> Tensor:
    """The real steps of member n, one after the other, item by item."""
    return torch.cat([values[n, b, : int(length)] for b, length in enumerate(LENGTHS)])


def test_masked_mean_is_the_mean_of_what_counts() -> None:
    values = torch.randn(N, B, T)
    own = torch.rand(N, B, T) < 0.5
    for n in range(N):
        torch.testing.assert_close(masked_mean(values, MASK)[n], real(values, n).mean())
        torch.testing.assert_close(masked_mean(values, own)[n], values[n][own[n]].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_distances_are_those_of_torch(kind: Distance) -> None:
    mapped, original = torch.randn(N, B, T, H), torch.randn(N, B, T, H)
    expected = {"l2": nnf.mse_loss, "l1": nnf.l1_loss}[kind]
    torch.testing.assert_close(hidden_distance(mapped, original, kind).mean(), expected(mapped, original))
    losses = hidden_loss(mapped, original, MASK, torch.tensor([1.0, 2.0, 4.0]), kind)
    for n, spread in enumerate((1.0, 2.0, 4.0)):
        torch.testing.assert_close(losses[n], expected(real(mapped, n), real(original, n)) / spread)


def test_distances_have_their_closed_forms() -> None:
    zeros, twos = torch.zeros(N, B, T, H), torch.full((N, B, T, H), -2.0)
    assert hidden_loss(twos, zeros, MASK, ONES, "l2").tolist() == [4.0] * N
    assert hidden_loss(twos, zeros, MASK, ONES, "l1").tolist() == [2.0] * N


@pytest.mark.parametrize("kind", KINDS)
def test_perfect_is_zero(kind: Distance) -> None:
    original = torch.randn(N, B, T, H)
    assert torch.equal(hidden_loss(original.clone(), original, MASK, ONES, kind), torch.zeros(N))


def test_the_mean_state_is_worth_one() -> None:
    original = torch.randn(N, B, T, H) * torch.tensor([0.1, 1.0, 30.0]).view(N, 1, 1, 1) + 5.0
    mean = torch.stack([real(original, n).mean(0) for n in range(N)])
    variance = torch.stack([real(original, n).var(0, correction=0).mean() for n in range(N)])
    answer = mean[:, None, None].expand(N, B, T, H)
    torch.testing.assert_close(hidden_loss(answer, original, MASK, variance), torch.ones(N))


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("which", ["l2", "l1", "output"])
def test_padding_counts_in_neither_loss_nor_gradient(which: str, garbage: float) -> None:
    def run(fill: float) -> tuple[Tensor, Tensor]:
        padded = ~MASK[None, :, :, None]
        mine, theirs = (torch.linspace(-1, 1, N * B * T * H).view(N, B, T, H) * k for k in (1, -0.3))
        mine, theirs = mine.masked_fill(padded, fill).requires_grad_(), theirs.masked_fill(padded, fill)
        loss = {
            "output": lambda: output_loss(mine, theirs, MASK),
            "l2": lambda: hidden_loss(mine, theirs, MASK, ONES, "l2"),
            "l1": lambda: hidden_loss(mine, theirs, MASK, ONES, "l1"),
        }[which]()
        (gradient,) = torch.autograd.grad(loss.sum(), mine)
        return loss.detach(), gradient

    loss, gradient = run(garbage)
    clean, expected = run(0.0)
    assert torch.equal(loss, clean)
    assert torch.equal(gradient, expected)
    assert float(gradient[:, ~MASK].abs().max()) == 0.0
    assert bool((gradient[:, MASK] != 0).any())


def test_output_loss_is_the_kl_divergence() -> None:
    emulated, original = torch.randn(N, B, T, C), torch.randn(N, B, T, C)
    losses = output_loss(emulated, original, MASK)
    for n in range(N):
        p, q = (real(logits, n).log_softmax(-1) for logits in (original, emulated))
        torch.testing.assert_close(losses[n], nnf.kl_div(q, p, reduction="batchmean", log_target=True))
    assert bool((losses > 0).all())


def test_output_loss_is_zero_at_equality_and_blind_to_a_shift_of_logits() -> None:
    original = torch.randn(N, B, T, C)
    assert torch.equal(output_loss(original.clone(), original, MASK), torch.zeros(N))
    torch.testing.assert_close(output_loss(original + 3.0, original, MASK), torch.zeros(N), atol=1e-6, rtol=0)


def test_output_loss_has_the_gradient_of_cross_entropy_to_soft_outputs() -> None:
    emulated, original = torch.randn(N, B, T, C, requires_grad=True), torch.randn(N, B, T, C)
    (gradient,) = torch.autograd.grad(output_loss(emulated, original, MASK).sum(), emulated)
    soft = -(original.softmax(-1) * emulated.log_softmax(-1)).sum(-1)
    (expected,) = torch.autograd.grad(masked_mean(soft, MASK).sum(), emulated)
    torch.testing.assert_close(gradient, expected)


def test_burn_in_is_left_out_but_never_an_item_s_last_step() -> None:
    mapped, original = torch.zeros(1, B, T, H), torch.zeros(1, B, T, H)
    original[0, :, :2] = 1.0
    loss = hidden_loss(mapped, original, BATCH.real_steps(burn_in=2), torch.ones(1))
    # items of 6, 1, 4 and 3 steps leave 4, 1 (its last, which is wrong), 2 and 1
    torch.testing.assert_close(loss, torch.tensor([1 / 8]))
