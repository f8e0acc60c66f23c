"""How does one look into a network of anybody's make? By its forward, or by hooks on layers that `observe` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from dynamo.population.manifest import PopulationError
from dynamo.types import SEQUENTIAL, reads_of

Observe = Callable[[nn.Module, Tensor], tuple[Tensor | Sequence[Tensor], Tensor | None]]
"""A module and its inputs -> hidden states, of one stage or of several, and logits (None: it has no answers).

Examples:
    >>> import torch
    >>> from dynamo import Population
    >>> def observe(network, words):
    ...     states, _ = network(torch.nn.functional.one_hot(words, 9).float())
    ...     return states, states[..., :2]
    >>> Population.from_modules([torch.nn.LSTM(9, 4, batch_first=True)], observe).members[0].group
    'LSTM'
"""

ReadOut = Callable[[nn.Module, Tensor], Tensor]
"""A module and states of its last stage, which may come from elsewhere -> logits.

Examples:
    >>> import torch
    >>> from dynamo import Population
    >>> def observe(network, words):
    ...     states, _ = network(torch.nn.functional.one_hot(words, 9).float())
    ...     return states, states[..., :2]
    >>> def read_out(network, states):
    ...     return states[..., :2]
    >>> population = Population.from_modules([torch.nn.LSTM(9, 4, batch_first=True)], observe, read_out=read_out)
    >>> population.bundles[0].read_out(torch.ones(1, 5, 3, 4)).shape  # [N, B, T, H], from elsewhere
    torch.Size([1, 5, 3, 2])
"""


def call(module: nn.Module, inputs: Tensor) -> tuple[Tensor | Sequence[Tensor], Tensor | None]:
    """The `Observe` of modules whose forward returns states and logits by itself, and of bare recurrent layers."""
    if isinstance(module, nn.RNNBase):
        given = module(inputs if module.batch_first else inputs.transpose(0, 1))
        return _tensor(given, module, inputs.shape[1], ""), None
    seen: tuple[Tensor, Tensor] = module(inputs)
    return seen


@dataclass(frozen=True)
class Probe:
    """How does one look into a network?

    Attributes:
        observe: gives hidden states and logits.
        read_out: the network's readout alone; without it lambda cannot be 0, and a network that answers once has no
            answers at other steps.
    """

    observe: Observe = call
    read_out: ReadOut | None = None


def observe(*layers: str, output: str | None = "") -> Observe:
    """How does one look at the outputs of named layers? By forward hooks, which are gone after every look.

    Every layer is a stage. Of a layer that returns several things (`nn.LSTM`, a block of a transformer) the first
    counts; a layer that is called once at every step (`nn.GRUCell`) gives one state a step. Packed sequences are
    unpacked, and recurrent layers with `batch_first=False` turned.

    Args:
        layers: names as `module.named_modules()` has them, in the order of the data flow.
        output: the layer that gives the logits; by default what the module itself returns, its `logits` if it has
            such an attribute, the first if it is several things. None: the network has no answers.

    Returns:
        For `Population.from_modules`: a module and inputs -> hidden states of every layer, and logits.

    Raises:
        PopulationError: no layer is named, or by something else than texts. When it looks: there is no such layer, or
            it is not reached.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> import dynamo
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 2))
        >>> hidden, logits = dynamo.observe("1", "3")(network, torch.zeros(4, 3))
        >>> [list(stage.shape) for stage in hidden], list(logits.shape)
        ([[4, 8], [4, 5]], [4, 2])
    """
    if not layers:
        raise PopulationError("observe() names no layer; name at least one, as in observe('lstm').")
    for one in layers:
        if not isinstance(one, str):
            names = ", ".join(f'"{name}"' for name in _names_in(layers)) or '"lstm"'
            raise PopulationError(
                f"observe takes names of layers as separate texts, got {_told(one)}: observe({names})."
            )
    if not isinstance(output, str | None):
        name = next(iter(_names_in([output])), "readout")
        raise PopulationError(f'observe takes the name of one layer as output, got {_told(output)}: output="{name}".')
    return partial(_through_hooks, layers=layers, output=output)


def names_layers(look: Observe) -> bool:
    """Whether this is what `observe` returns, and not a function of somebody else's."""
    return isinstance(look, partial) and look.func is _through_hooks


def _names_in(given: object) -> list[str]:
    """The names of layers in lists of lists; those of a `nn.Sequential` are numbers."""
    if isinstance(given, list | tuple):
        return [name for one in given for name in _names_in(one)]
    return [str(given)] if isinstance(given, str | int) else []


def _told(given: object) -> str:
    """What something is, in a few words of one line."""
    told = repr(given)
    return told if len(told) <= 40 and "\n" not in told else f"a {type(given).__name__}"


def _through_hooks(
    module: nn.Module, inputs: Tensor, *, layers: tuple[str, ...], output: str | None
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """`observe`, on one module."""
    wanted = dict.fromkeys([*layers, *([output] if output else [])])
    calls: dict[str, list[Tensor]] = {name: [] for name in wanted}
    steps = inputs.shape[1] if inputs.dim() > 1 else 1

    def keep(part: nn.Module, _: Any, given: Any, name: str) -> None:  # noqa: ANN401 - a layer may return anything
        calls[name].append(_tensor(given, part, steps, name))

    handles = [_layer(module, name).register_forward_hook(partial(keep, name=name)) for name in wanted]
    try:
        returned = module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    by_step = reads_of(inputs) in SEQUENTIAL
    seen = {name: _over_steps(name, tensors, by_step, steps) for name, tensors in calls.items()}
    if output is None:
        logits = None
    else:
        logits = seen[output] if output else _tensor(getattr(returned, "logits", returned), module, steps, "")
    return tuple(seen[name] for name in layers), logits


def _layer(module: nn.Module, name: str) -> nn.Module:
    """A part of a network by its name."""
    part: nn.Module | None = dict(module.named_modules()).get(name) if name else None
    if part is None:
        raise PopulationError(f"there is no layer {name!r}; {layers_of(module, like=name)}")
    return part


def reader(layer: str) -> ReadOut:
    """The `ReadOut` that is a layer of the network, by its name."""
    return partial(_by_layer, layer=layer)


def _by_layer(module: nn.Module, hidden: Tensor, *, layer: str) -> Tensor:
    logits: Tensor = _layer(module, layer)(hidden)
    return logits


def layers_of(module: nn.Module, like: str = "") -> str:
    """Which layers can be observed? A sentence that names the nearest to `like`, or the outermost ones."""
    names = [name for name, _ in module.named_modules() if name]
    near = get_close_matches(like, names, n=3) or [name for name, _ in module.named_children()]
    if not near:
        return f"a {type(module).__name__} has no layers with names"
    more = ", ..." if len(near) > 8 or len(names) > len(near) else ""
    return f"it has {', '.join(near[:8])}{more}"


def _tensor(given: Any, part: nn.Module, steps: int, name: str) -> Tensor:  # noqa: ANN401 - a layer may return anything
    """What counts of what a layer (the network itself, if it has no name) returns: items first, one tensor."""
    if isinstance(given, PackedSequence):
        return pad_packed_sequence(given, batch_first=True, total_length=steps)[0]
    if isinstance(given, tuple | list) and given:
        return _tensor(given[0], part, steps, name)
    if not isinstance(given, Tensor):
        keys = f" (keys {', '.join(map(str, given)) or 'none'})" if isinstance(given, Mapping) else ""
        told = f"{type(given).__name__}{keys}"
        if name:
            raise PopulationError(f"layer {name!r} returns {told}, no tensor; name a layer that returns one.")
        raise PopulationError(
            f"the network's own output is {told}, no tensor; name the layer that gives the logits, observe(..., "
            f"output='LAYER') ({layers_of(part)}), or give as observe= a function that returns states and logits."
        )
    turned = isinstance(part, nn.RNNBase) and not part.batch_first and given.dim() == 3
    return given.transpose(0, 1) if turned else given


def _over_steps(name: str, tensors: Sequence[Tensor], by_step: bool, steps: int) -> Tensor:
    """One tensor of all calls of a layer: a cell that was called at every step `[B, H]` gives `[B, T, H]`."""
    if not tensors:
        raise PopulationError(f"layer {name!r} takes no part in what the network computes; observe another one.")
    if by_step and tensors[0].dim() == 2 and len(tensors) == steps:
        return torch.stack(list(tensors), dim=1)
    if len(tensors) > 1:
        raise PopulationError(
            f"layer {name!r} is called {len(tensors)} times; observe one that is called once, or a cell that is called "
            "once at every step and returns states [B, H]."
        )
    return tensors[0]
