"""L_hidden and L_output: how far an emulator is from its original."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distance = Literal["l2", "l1"]


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the steps that count.

    Args:
        values: `[N, B, T]`.
        mask: bool, `[B, T]` or `[N, B, T]`; None where all count, as the positions of a feature map do.

    Returns:
        `[N]`.
    """
    if mask is None:
        return values.mean((1, 2))
    weight = mask.to(values.dtype).expand_as(values)
    return torch.where(weight > 0, values, 0.0).sum((1, 2)) / weight.sum((1, 2))


def hidden_distance(mapped: Tensor, original: Tensor, kind: Distance) -> Tensor:
    """d(V_n(s_t), h_t), averaged over hidden units: `[N, B, T, H]` twice -> `[N, B, T]`.

    L2 is the squared distance, L1 the absolute one (Figure 10 of the paper compares them).
    """
    return _size(mapped - original, kind)


def hidden_loss(mapped: Tensor, original: Tensor, mask: Tensor | None, spread: Tensor, kind: Distance = "l2") -> Tensor:
    """L_hidden(n) = E mean_t d(V_n(s_t), h_t) / spread_n, of one stage.

    Differs from, or is not given in, the paper: the division by the spread of the member's own states, after
    which 1 means "no better than the member's mean state", and members and lambda are comparable.

    Args:
        mapped: V_n(s), `[N, B, T, H]`.
        original: h, `[N, B, T, H]`.
        mask: steps that count, `[B, T]` or `[N, B, T]`; None for all.
        spread: mean distance of a member's states from their mean, `[N]`; ones for the raw distance.
        kind: l2 or l1.

    Returns:
        `[N]`, at least 0.

    Examples:
        >>> import torch
        >>> from dynamo.meta import hidden_loss
        >>> states = torch.randn(1, 20, 5, 3)  # N = 1, B = 20, T = 5, H = 3
        >>> mean = states.mean((1, 2), keepdim=True)
        >>> spread = (states - mean).square().mean((1, 2, 3))
        >>> hidden_loss(mean.expand_as(states), states, None, spread).round(decimals=4)  # no better than the mean
        tensor([1.])
    """
    gap = _wide(mapped) - _wide(original)
    if mask is not None:  # nothing that stands at padded steps may reach a gradient, where 0 * infinity would be NaN
        gap = torch.where(mask.unsqueeze(-1), gap, 0.0)
    return masked_mean(_size(gap, kind), mask) / spread


def output_loss(emulated: Tensor, original: Tensor, mask: Tensor | None) -> Tensor:
    """L_output(n) = E mean_t KL(softmax(y_t) || softmax(v_t)), in nats.

    Not given in the paper: KL has the gradient of the cross-entropy to the base model's soft outputs and is 0
    at perfect emulation.

    Args:
        emulated: logits v of the meta-model, `[N, B, T, C]`.
        original: logits y of the base models, `[N, B, T, C]`.
        mask: steps that count, `[B, T]` or `[N, B, T]`; None for all.

    Returns:
        `[N]`, at least 0.

    Examples:
        >>> import torch
        >>> from dynamo.meta import output_loss
        >>> sure, unsure = torch.tensor([[[[9.0, -9.0]]]]), torch.zeros(1, 1, 1, 2)  # logits [N, B, T, C]
        >>> output_loss(unsure, sure, None).round(decimals=3), output_loss(sure + 5, sure, None)  # ln 2, and nothing
        (tensor([0.6930]), tensor([0.]))
    """
    if mask is not None:
        real = mask.unsqueeze(-1)
        emulated, original = (torch.where(real, logits, 0.0) for logits in (emulated, original))
    log_p, log_q = (_wide(logits).log_softmax(-1) for logits in (original, emulated))
    return masked_mean((log_p.exp() * (log_p - log_q)).sum(-1), mask)


def _wide(values: Tensor) -> Tensor:
    """At least float32: in half precision the squares of small gaps would be lost."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _size(gap: Tensor, kind: Distance) -> Tensor:
    """Mean squared or absolute value over hidden units: `[N, B, T, H]` -> `[N, B, T]`."""
    return (gap.square() if kind == "l2" else gap.abs()).mean(-1)
