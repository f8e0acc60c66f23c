"""What does a network of anybody's make show? `look` runs it and checks the shapes of its states and answers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynamo.population.hooks import Probe, ReadOut, call, layers_of
from dynamo.population.manifest import PopulationError
from dynamo.types import SEQUENTIAL, Reads, reads_of


class Form(NamedTuple):
    """What kind of network is it? Those of one form can stand in one bundle.

    Attributes:
        reads: what its inputs are.
        item: an input without batch and steps: `()` for token ids, `(F,)`, or `(channels, h, w)`.
        hidden_sizes: units of every stage.
        positions: of every stage `(h, w)` where it is a feature map, else `()`.
        classes: C; 0 where it has no answers.
        stepwise: whether it answers at every step.
    """

    reads: Reads
    item: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]
    classes: int
    stepwise: bool


class Seen(NamedTuple):
    """What one network did on a batch, as `Trajectory` has it but for the `N`.

    Attributes:
        hidden: `[B, T, H]`, or maps `[B, channels, h, w]`, of every stage, float32.
        output: `[B, T, C]` or `[B, C]`, float32.
        form: what kind of network that is.
    """

    hidden: tuple[Tensor, ...]
    output: Tensor
    form: Form


def look(module: nn.Module, probe: Probe, inputs: Tensor, name: str) -> Seen:
    """What does one network do?

    Args:
        module: the network.
        probe: how to look into it.
        inputs: token ids `[B, T]`, signals `[B, T, F]`, vectors `[B, F]` or images `[B, channels, h, w]`.
        name: what errors call it.

    Raises:
        PopulationError: it fails, or does not show tensors of such shapes.
    """
    reads = reads_of(inputs)
    shapes = "[B, T, H] and logits [B, T, C] or [B, C]" if reads in SEQUENTIAL else (
        "[B, H] or [B, channels, h, w] and logits [B, C]"
    )  # fmt: skip
    by_forward = probe.observe is call
    culprit = "its forward" if by_forward else "observe"
    remedy = f"observe has to return hidden states {shapes}, items first"
    if by_forward:
        remedy = f"name the layers whose outputs are its states, as in observe=dynamo.observe(...); {layers_of(module)}"
    try:
        seen = probe.observe(module, inputs.to(precision(module)) if inputs.is_floating_point() else inputs)
    except PopulationError as error:  # of `observe`, which says by itself what to do
        raise PopulationError(f"{name}: {error}") from error
    except Exception as error:
        raise PopulationError(
            f"{name} cannot be run on inputs {list(inputs.shape)}: {error}; {remedy}. If these are no "
            "inputs it can read, give example=, a few real ones."
        ) from error
    if not isinstance(seen, tuple | list) or len(seen) != 2:
        kinds = [type(part).__name__ for part in seen] if isinstance(seen, tuple | list) else [type(seen).__name__]
        raise PopulationError(f"{name}: {culprit} returns {', '.join(kinds) or 'nothing'}; {remedy}.")
    states, logits = seen
    stages: list[Any] = list(states) if isinstance(states, tuple | list) else [states]
    parts = stages if logits is None else [*stages, logits]
    strange = [type(part).__name__ for part in parts if not isinstance(part, Tensor)]
    if strange or not stages:
        raise PopulationError(f"{name}: {culprit} returns {', '.join(strange) or 'no states'}; {remedy}.")
    if not all(part.is_floating_point() for part in parts):
        told = " and ".join(str(part.dtype) for part in parts)
        raise PopulationError(f"{name}: {culprit} returns {told}, not floats; {remedy}.")
    return _seen(module, probe, inputs, [stage.float() for stage in stages], logits, f"{name}: {culprit}", remedy)


def _seen(
    module: nn.Module,
    probe: Probe,
    inputs: Tensor,
    stages: list[Tensor],
    logits: Tensor | None,
    culprit: str,
    remedy: str,
) -> Seen:
    """`look`, once there are tensors: are they of the right shapes?"""
    reads = reads_of(inputs)
    sequential = reads in SEQUENTIAL
    ahead = inputs.shape[: 2 if sequential else 1]  # [B, T] or [B]
    if logits is None:
        logits = stages[-1].new_zeros(*ahead, 0)
    elif sequential and logits.dim() == 2 and probe.read_out is not None:  # it answers once; its readout always can
        logits = answer(module, probe.read_out, stages[-1], culprit)
    fine = logits.dim() in ((2, 3) if sequential else (2,)) and logits.shape[:-1] == ahead[: logits.dim() - 1]
    for stage in stages:
        fine &= stage.dim() in ((3,) if sequential else (2, 4)) and stage.shape[: len(ahead)] == ahead
    if not fine:
        told = ", ".join(str(list(stage.shape)) for stage in stages)
        raise PopulationError(
            f"{culprit} returns hidden states {told} and logits {list(logits.shape)} for inputs {list(inputs.shape)}; "
            f"{remedy}."
        )
    positions = tuple(() if sequential else tuple(stage.shape[2:]) for stage in stages)
    sizes = tuple(stage.shape[2 if sequential else 1] for stage in stages)
    item = {"tokens": (), "signals": inputs.shape[2:]}.get(reads, inputs.shape[1:])
    form = Form(reads, tuple(item), sizes, positions, logits.shape[-1], sequential and logits.dim() == 3)
    hidden = tuple(stage[:, :, None, None] if not sequential and stage.dim() == 2 else stage for stage in stages)
    return Seen(hidden, logits.float(), form)


def answer(module: nn.Module, read_out: ReadOut, hidden: Tensor, name: str) -> Tensor:
    """What does one network's readout say of states of its last stage? Logits, float32.

    Raises:
        PopulationError: the readout fails, or returns no tensor.
    """
    try:
        return read_out(module, hidden.to(precision(module))).float()
    except Exception as error:
        raise PopulationError(f"{name}: read_out fails on hidden states {list(hidden.shape)}: {error}") from error


def precision(module: nn.Module) -> torch.dtype:
    """What a network computes in: the type of its first float parameter, float32 where it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
