"""Stacked networks trained one after the other: as one loss per member, without the graphs of all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

MemberLoss = Callable[[int, Sequence[Tensor]], Tensor]
"""A member's index and its own weights, in the order of the stacked ones -> its loss, one number."""


def losses_in_turn(stacked: Sequence[Tensor], loss: MemberLoss) -> Tensor:
    """What are the losses of members that are too large to be alive all at once?

    A member's gradient is found right after its loss, and its graph is freed before the next one begins. `backward`
    on the result hands the gradients over, each times what arrived for its member; to an optimiser, to accumulation
    and to DDP it is a loss like any other. It can be called once. Gradients are computed unscaled: with 16-mixed, the
    scaling of the loss comes too late to keep small ones from vanishing, so train at bf16 or float32.

    Args:
        stacked: parameters that want gradients, `[N, ...]` each.
        loss: of one member.

    Returns:
        `[N]`.
    """
    gradients = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in stacked]
    losses = []
    for index in range(len(stacked[0])):
        own = [tensor.detach()[index].requires_grad_() for tensor in stacked]
        value = loss(index, own)
        with torch.autocast(value.device.type, enabled=False):  # as in a backward pass after the step
            found = torch.autograd.grad(value, own)
        for gradient, part in zip(gradients, found, strict=True):
            gradient[index] = part
        losses.append(value.detach())
    result: Tensor = _Deliver.apply(torch.stack(losses), *gradients, *stacked)
    return result


class _Deliver(Function):
    """Losses whose gradients are known already."""

    @staticmethod
    def forward(ctx: FunctionCtx, losses: Tensor, *gradients_and_stacked: Tensor) -> Tensor:
        """Losses `[N]`, their gradients, and the parameters these belong to -> the losses."""
        ctx.save_for_backward(*gradients_and_stacked[: len(gradients_and_stacked) // 2])
        return losses.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, arrived: Tensor) -> tuple[Tensor | None, ...]:
        """Scales in place, as a copy would be as large as the population; the graph is freed, so nobody sees it."""
        gradients = ctx.saved_tensors  # type: ignore[attr-defined]
        scaled = (g.mul_(arrived.view(-1, *[1] * (g.dim() - 1))) for g in gradients)
        return None, *[None] * len(gradients), *scaled
