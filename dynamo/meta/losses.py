"""L_hidden and L_output: how far an emulator is from its original."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distance = Literal["l2", "l1"]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the steps that count.

    Args:
        values: `[N, B, T]`.
        mask: bool, `[B, T]` or `[N, B, T]`.

    Returns:
        `[N]`.
    """
    weight = mask.to(values.dtype).expand_as(values)
    return torch.where(weight > 0, values, 0.0).sum((1, 2)) / weight.sum((1, 2))


def hidden_distance(mapped: Tensor, original: Tensor, kind: Distance) -> Tensor:
    """d(V_n(s_t), h_t), averaged over hidden units: `[N, B, T, H]` twice -> `[N, B, T]`.

    L2 is the squared distance, L1 the absolute one (Figure 10 of the paper compares them).
    """
    return _size(mapped - original, kind)


def hidden_loss(mapped: Tensor, original: Tensor, mask: Tensor, spread: Tensor, kind: Distance = "l2") -> Tensor:
    """L_hidden(n) = E mean_t d(V_n(s_t), h_t) / spread_n.

    Differs from, or is not given in, the paper: the division by the spread of the member's own states, after
    which 1 means "no better than the member's mean state", and members and lambda are comparable.

    Args:
        mapped: V_n(s), `[N, B, T, H]`.
        original: h, `[N, B, T, H]`.
        mask: steps that count, `[B, T]` or `[N, B, T]`.
        spread: mean distance of a member's states from their mean, `[N]`; ones for the raw distance.
        kind: l2 or l1.

    Returns:
        `[N]`, at least 0.
    """
    # Nothing that stands at padded steps may reach a gradient, where 0 * infinity would be NaN.
    gap = torch.where(mask.unsqueeze(-1), mapped - original, 0.0)
    return masked_mean(_size(gap, kind), mask) / spread


def output_loss(emulated: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """L_output(n) = E mean_t KL(softmax(y_t) || softmax(v_t)), in nats.

    Not given in the paper: KL has the gradient of the cross-entropy to the base model's soft outputs and is 0
    at perfect emulation.

    Args:
        emulated: logits v of the meta-model, `[N, B, T, C]`.
        original: logits y of the base models, `[N, B, T, C]`.
        mask: steps that count, `[B, T]` or `[N, B, T]`.

    Returns:
        `[N]`, at least 0.
    """
    real = mask.unsqueeze(-1)
    log_p, log_q = (torch.where(real, logits, 0.0).log_softmax(-1) for logits in (original, emulated))
    return masked_mean((log_p.exp() * (log_p - log_q)).sum(-1), mask)


def _size(gap: Tensor, kind: Distance) -> Tensor:
    """Mean squared or absolute value over hidden units: `[N, B, T, H]` -> `[N, B, T]`."""
    return (gap.square() if kind == "l2" else gap.abs()).mean(-1)
