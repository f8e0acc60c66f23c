"""How both phases train: Adam or SGD, a learning rate that rises and decays, gradients clipped per member."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from dynamo.population.company import in_whole_vectors, norms
from dynamo.types import OptionError, UserError

Schedule = Literal["cosine", "constant", "one_cycle"]
OptimizerName = Literal["adam", "sgd"]
RISE: Final = 0.3
"""Share of the steps in which the rate of `one_cycle` goes up, as in torch's `OneCycleLR`."""
FUSED: Final = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)
"""Whether optimisers walk through memory once, several times faster on stacks; torch 2.3 cannot on a CPU."""


def adam(parameters: Iterable[dict[str, Any]], lr: float) -> torch.optim.AdamW:
    """AdamW over parameter groups, which may set their own `lr` and `weight_decay` (0 by default)."""
    return torch.optim.AdamW(list(parameters), lr=lr, weight_decay=0.0, fused=FUSED)


def stacked_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups in which the step of a member does not depend, to the bit, on how many there are.

    Args:
        parameters: stacked, `[N, ...]`.
        weight_decay: of all.
    """
    parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in parameters:
        parts[in_whole_vectors(parameter)].append(parameter)
    fused = {"params": parts[True], "weight_decay": weight_decay}
    others = {"params": parts[False], "weight_decay": weight_decay, "fused": False}
    return [group for group in (fused, others) if group["params"]]


def sgd(parameters: Iterable[dict[str, Any]], lr: float, momentum: float) -> torch.optim.SGD:
    """SGD with Nesterov's momentum over parameter groups, which may set their own `lr` and `weight_decay`.

    Weight decay is added to the gradient (L2), as recipes for image networks mean it; 0 by default.
    """
    return torch.optim.SGD(list(parameters), lr=lr, momentum=momentum, nesterov=momentum > 0, fused=FUSED)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a word that is none of an option's; a command line does so by itself, Python does not.

    Raises:
        ValueError: naming the option and what there is to choose from.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")


def check_descent(schedule: str, warmup_steps: int, clip: float, rates: Mapping[str, float]) -> None:
    """Refuse options that would climb, or follow no schedule.

    Args:
        schedule: see `learning_rate_factor`.
        warmup_steps: the same.
        clip: see `clip_per_member`.
        rates: learning rates, by the names of their options.

    Raises:
        ValueError: naming the option and its value.
    """
    check_choice("schedule", schedule, get_args(Schedule))
    for name, value in {**rates, "clip": clip, "warmup_steps": warmup_steps}.items():
        if not value >= 0:
            raise ValueError(f"{name} is {value}; it cannot be negative.")


def check_precision(precision: str | int) -> None:
    """Refuse the trainer's float16: fused optimisers undo its scaling of the loss after gradients have been clipped.

    They would be clipped at a norm some 65,536 times too small. bf16 needs no scaling.

    Raises:
        OptionError: naming what to take.
    """
    if str(precision).startswith("16"):
        raise OptionError(
            f"trainer.precision is {precision}: gradients are clipped before float16's scaling of the loss is undone. "
            "Set it to bf16-mixed or 32-true."
        )


def learning_rate_factor(schedule: Schedule, total_steps: int, warmup_steps: int) -> Callable[[int], float]:
    """Which share of the learning rate does step k use?

    "cosine": linear warm-up, times half a cosine down to 0. "constant": the warm-up alone. "one_cycle": linear up over
    30 % of the steps (over the warm-up, where that is longer), then half a cosine down to 0: the shape of torch's
    `OneCycleLR`, from 0 instead of a twenty-fifth, and with its momentum left alone.

    Args:
        schedule: "cosine", "constant" or "one_cycle".
        total_steps: optimiser steps of the whole run.
        warmup_steps: steps until the full learning rate.
    """
    rise = max(1, warmup_steps, round(RISE * total_steps)) if schedule == "one_cycle" else warmup_steps
    start = rise - 1 if schedule == "one_cycle" else 0

    def factor(k: int) -> float:
        warm = min(1.0, (k + 1) / max(1, rise))
        if schedule == "constant":
            return warm
        return warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0, k - start) / max(1, total_steps - start))))

    return factor


def scheduled(
    optimizer: torch.optim.Optimizer, schedule: Schedule, total_steps: float, warmup_steps: int
) -> OptimizerLRSchedulerConfig:
    """An optimiser with its learning rate scheduled step by step, as Lightning takes it; see `learning_rate_factor`.

    Raises:
        OptionError: the run has no end, and the schedule needs one.
    """
    if math.isinf(total_steps) and schedule != "constant":
        raise OptionError(
            f"schedule {schedule!r} has to know how many steps there are: set trainer.max_epochs or trainer.max_steps, "
            "or choose the schedule constant."
        )
    factor = learning_rate_factor(schedule, 0 if math.isinf(total_steps) else int(total_steps), warmup_steps)
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
    squares = torch.zeros(len(gradients[0]), device=gradients[0].device)
    for gradient in gradients:  # one after the other: a sum over a stack would depend on its width
        squares += norms(gradient).square()
    factors = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


class DivergenceError(UserError):
    """A loss or a weight is no longer a finite number.

    Examples:
        >>> import torch
        >>> from dynamo.population import DivergenceError
        >>> from dynamo.population.optimisation import check_finite
        >>> try:
        ...     check_finite(torch.tensor([0.5, torch.nan]), ["GRU-0", "GRU-1"], step=7, remedy="Lower lr.")
        ... except DivergenceError as error:
        ...     print(error)
        The loss of GRU-1 is no longer finite at step 7. Lower lr.
    """


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


@torch.no_grad()
def check_weights(weights: Mapping[str, Tensor], names: Sequence[str], step: int, remedy: str) -> None:
    """Stop before weights that are no finite numbers are kept, and say whose they are.

    The loss of a step is that of the weights before it: the last update of a run can be one that nobody has seen.

    Args:
        weights: by their names, which are given where no member is to blame. Of `[n, ...]`, as the tensors of a bundle
            are, entry i belongs to member i.
        names: of the n members; empty where the weights belong to none, as those of the meta-model.
        step: the step at hand.
        remedy: what to try.

    Raises:
        DivergenceError: naming the members, or else the weights.
    """
    sound = {name: tensor.isfinite() for name, tensor in weights.items()}
    broken = {name: fine for name, fine in sound.items() if not bool(fine.all())}
    if not broken:
        return
    stacked = [
        fine.reshape(len(names), -1).all(1) for fine in broken.values() if fine.dim() and len(fine) == len(names)
    ]
    if stacked:
        sane = torch.stack([fine.cpu() for fine in stacked]).all(0).tolist()
        whose = ", ".join(name for name, fine in zip(names, sane, strict=True) if not fine)
        raise DivergenceError(f"The weights of {whose} are no longer finite at step {step}. {remedy}")
    raise DivergenceError(f"The weights {', '.join(broken)} are no longer finite at step {step}. {remedy}")
