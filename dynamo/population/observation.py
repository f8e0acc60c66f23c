"""What does a network of anybody's make show? `look` runs it and checks the shapes of its states and answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynamo.population.hooks import Probe, ReadOut, call, layers_of, names_layers
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


def look(module: nn.Module, probe: Probe, inputs: Tensor, name: str, *, given: bool = True) -> Seen:
    """What does one network do?

    Args:
        module: the network.
        probe: how to look into it.
        inputs: token ids `[B, T]`, signals `[B, T, F]`, vectors `[B, F]` or images `[B, channels, h, w]`.
        name: what errors call it.
        given: whether somebody chose these inputs, and they do not only stand in for real ones.

    Raises:
        PopulationError: it fails, or does not show tensors of such shapes.
    """
    culprit, remedy = "its forward" if probe.observe is call else "observe", _remedy(module, probe, inputs)
    inputs = inputs.to(precision(module)) if inputs.is_floating_point() else inputs
    try:
        seen = probe.observe(module, inputs)
    except PopulationError as error:  # of `observe`, which says by itself what to do
        raise PopulationError(f"{name}: {error}") from error
    except Exception as error:
        why, remedy = _why(module, probe, inputs, error, remedy, given)
        raise PopulationError(f"{name} cannot be run on inputs {list(inputs.shape)}: {why}; {remedy}.") from error
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


def _remedy(module: nn.Module, probe: Probe, inputs: Tensor) -> str:
    """What to do where it does not show what it ought to."""
    states, logits = ("[B, H] or [B, channels, h, w]", "[B, C]")
    if reads_of(inputs) in SEQUENTIAL:
        states, logits = "[B, T, H]", "[B, T, C] or [B, C]"
    if probe.observe is call:
        return f"name the layers whose outputs are its states, as in observe=dynamo.observe(...); {layers_of(module)}"
    if names_layers(probe.observe):
        return f"name layers that return {states}, and as output= one that returns logits {logits}, items first"
    return f"observe has to return hidden states {states} and logits {logits}, items first"


def _why(
    module: nn.Module, probe: Probe, inputs: Tensor, error: Exception, remedy: str, given: bool
) -> tuple[str, str]:
    """Why could it not be run, and what is to be done? Nothing that has no part in it."""
    why = " ".join(str(error).split()).rstrip(".;") or type(error).__name__
    if isinstance(error, IndexError) and reads_of(inputs) == "tokens":
        name, size, asked = _small_embedding(module, probe, inputs)
        largest = int(inputs.max())
        if not name:
            why += f" (the largest id is {largest})"
        elif not bool(torch.isin(asked, inputs).all()):  # positions, or anything else that is no id
            why += f": the network's embedding {name!r} (num_embeddings={size}) is asked for {int(asked.max())}"
        else:
            remedy = f"give ids below {size}, in example= as in the data, or networks that know more"
            why += f": the largest id is {largest}, and the network's embedding {name!r} is smaller"
            return f"{why} (num_embeddings={size})", remedy
    if probe.observe is call or names_layers(probe.observe):
        return why, "give inputs that its forward can read" if given else "give example=, a few real inputs"
    return why, remedy if given else f"{remedy}. If these are no inputs it can read, give example=, a few real ones"


def _small_embedding(module: nn.Module, probe: Probe, inputs: Tensor) -> tuple[str, int, Tensor]:
    """Which embedding is asked for more than it has: its name, its size, and what it is asked for; "" if none is."""
    found: list[tuple[str, int, Tensor]] = []

    def check(part: nn.Embedding, given: tuple[Any, ...], name: str) -> None:
        asked = given[0] if given and isinstance(given[0], Tensor) else inputs.new_empty(0)
        if bool((asked >= part.num_embeddings).any()):
            found.append((name or type(part).__name__, part.num_embeddings, asked))

    parts = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Embedding)]
    handles = [part.register_forward_pre_hook(partial(check, name=name)) for name, part in parts]
    with suppress(Exception):  # it fails as it did before
        probe.observe(module, inputs)
    for handle in handles:
        handle.remove()
    return found[0] if found else ("", 0, inputs)


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
        if sequential and _steps_first([*stages, logits], inputs):
            remedy = "axes are steps first: make items the first (batch_first=True, or transpose(0, 1) what comes out)"
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


def _steps_first(parts: Sequence[Tensor], inputs: Tensor) -> bool:
    """Whether something is `[T, B, ...]`, as PyTorch's recurrent layers return it unless told otherwise."""
    items, steps = inputs.shape[:2]
    return items != steps and any(part.dim() == 3 and part.shape[:2] == (steps, items) for part in parts)


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
