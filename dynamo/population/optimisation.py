"""How both phases train: Adam, a learning rate that warms up and decays, gradients clipped per member."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from dynamo.types import UserError

Schedule = Literal["cosine", "constant"]


def adam(parameters: Iterable[dict[str, Any]], lr: float) -> torch.optim.AdamW:
    """AdamW over parameter groups, which may set their own `lr` and `weight_decay` (0 by default).

    The fused kernel walks through memory once, which for stacked word vectors is several times faster; torch 2.3
    does not have it for the CPU.
    """
    groups = list(parameters)
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.0, fused=version >= (2, 4))


def learning_rate_factor(schedule: Schedule, total_steps: int, warmup_steps: int) -> Callable[[int], float]:
    """Which share of the learning rate does step k use? Linear warm-up, then half a cosine down to 0.

    Args:
        schedule: "cosine", or "constant" for warm-up alone.
        total_steps: optimiser steps of the whole run.
        warmup_steps: steps of the warm-up.
    """

    def factor(k: int) -> float:
        warm = min(1.0, (k + 1) / max(1, warmup_steps))
        if schedule == "constant":
            return warm
        return warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, k / max(1, total_steps))))

    return factor


def scheduled(
    optimizer: torch.optim.Optimizer, schedule: Schedule, total_steps: int, warmup_steps: int
) -> OptimizerLRSchedulerConfig:
    """An optimiser with its learning rate scheduled step by step, as Lightning takes it; see `learning_rate_factor`."""
    factor = learning_rate_factor(schedule, total_steps, warmup_steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@torch.no_grad()
def clip_per_member(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale each member's gradient down to norm `largest`, as if every member were trained alone.

    Clipping the norm of the stack would let one member's bad batch slow down all the others.

    Args:
        parameters: stacked, `[N, ...]`.
        largest: norm above which a member's gradient is scaled; 0 leaves all as they are.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if largest <= 0 or not gradients:
        return
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factors = (largest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


class DivergenceError(UserError):
    """A loss is no longer a finite number."""


def check_finite(losses: Tensor, names: Sequence[str], step: int, remedy: str) -> None:
    """Stop at once when a member's loss is not finite, and say whose.

    Args:
        losses: `[n]`.
        names: of the n members.
        step: the step at hand.
        remedy: what to try.

    Raises:
        DivergenceError: naming the members.
    """
    sound = losses.isfinite()
    if not bool(sound.all()):
        culprits = ", ".join(name for name, fine in zip(names, sound.tolist(), strict=True) if not fine)
        raise DivergenceError(f"The loss of {culprits} is no longer finite at step {step}. {remedy}")
