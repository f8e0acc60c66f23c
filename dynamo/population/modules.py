"""Networks of anybody's make, run one after the other: `ModuleBundle`, and `Probe`, how one looks into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dynamo.population.base import Bundle, weighted_mean
from dynamo.population.manifest import PopulationError
from dynamo.types import TaskBatch, Trajectory

Observe = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
"""A module and inputs `[B, T]` -> its hidden states `[B, T, H]` and its logits `[B, T, C]` at every step."""

ReadOut = Callable[[nn.Module, Tensor], Tensor]
"""A module and hidden states `[B, T, H]`, which may come from elsewhere -> logits `[B, T, C]`."""


def call(module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The `Observe` of modules whose forward returns hidden states and logits by itself."""
    seen: tuple[Tensor, Tensor] = module(inputs)
    return seen


@dataclass(frozen=True)
class Probe:
    """How does one look into a network?

    Attributes:
        observe: gives hidden states and logits at every step.
        read_out: the network's readout alone; asked for only where lambda = 0.
    """

    observe: Observe = call
    read_out: ReadOut | None = None


class ModuleBundle(Bundle):
    """How do networks of anybody's make run as a bundle? One after the other, without gradients, in evaluation mode.

    They may be of different classes and architectures, as long as hidden states and logits have the same widths. States
    and logits are handed on in float32, the precision of meta-models, whatever the networks compute in.

    Args:
        modules: taken over, not copied: they are frozen and stay in evaluation mode. `Population.from_modules`
            hands in copies.
        probes: how to look into each of them.
        hidden_size: H.
        classes: C.
    """

    kind: ClassVar[str] = "modules"

    def __init__(self, modules: Sequence[nn.Module], probes: Sequence[Probe], hidden_size: int, classes: int) -> None:
        super().__init__()
        if len(probes) != len(modules):
            raise ValueError(f"{len(modules)} modules were given {len(probes)} probes; each needs one.")
        self.count = len(modules)
        self.networks = nn.ModuleList(modules)
        self.probes = tuple(probes)
        self._sizes = (hidden_size, classes)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a base model is watched, never trained."""
        return super().train(False)

    @property
    def settings(self) -> dict[str, Any]:
        """See `Bundle.settings`; what two bundles must share to be joined, though no network can be built from it."""
        return {"hidden_size": self._sizes[0], "classes": self._sizes[1]}

    @classmethod
    def build(cls, count: int, settings: dict[str, Any]) -> Self:
        """Not possible: see Raises.

        Raises:
            PopulationError: always; only their own code can build such networks.
        """
        raise PopulationError(
            "Networks of your own cannot be built from settings; give them to Population.from_modules."
        )

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """See `Bundle.hidden_sizes`."""
        return self._sizes[:1]

    @property
    def classes(self) -> int:
        """C."""
        return self._sizes[1]

    @property
    def has_readout(self) -> bool:
        """See `Bundle.has_readout`."""
        return all(probe.read_out is not None for probe in self.probes)

    @torch.no_grad()
    def forward(self, batch: TaskBatch, select: Tensor | None = None) -> Trajectory:
        """See `Bundle.forward`; hidden `([n, B, T, H],)` and output `[n, B, T, C]`.

        Raises:
            PopulationError: a network fails, or returns what is not of this form.
        """
        chosen = self._chosen(select)
        inputs = list(batch.inputs) if batch.inputs.dim() == 3 else [batch.inputs] * len(chosen)
        if len(inputs) != len(chosen):
            raise ValueError(f"{len(chosen)} networks were given items for {len(inputs)}; each needs its own.")
        hidden, output = [], []
        for index, items in zip(chosen, inputs, strict=True):
            name = _name(index, self.networks[index])
            states, logits = look(self.networks[index], self.probes[index], items, name)
            if (states.shape[2], logits.shape[2]) != self._sizes:
                raise PopulationError(
                    f"{name} has {states.shape[2]} hidden units and {logits.shape[2]} classes, its bundle "
                    f"{self._sizes[0]} and {self._sizes[1]}; both have to be the same on all inputs."
                )
            hidden.append(states)
            output.append(logits)
        return Trajectory((torch.stack(hidden),), torch.stack(output))

    @torch.no_grad()
    def read_out(self, hidden: Tensor, select: Tensor | None = None) -> Tensor:
        """See `Bundle.read_out`; `[n, B, T, H]` -> `[n, B, T, C]`, by the `read_out` that came with the networks.

        Raises:
            PopulationError: none came with them.
        """
        logits = []
        for index, states in zip(self._chosen(select), hidden, strict=True):
            network, probe = self.networks[index], self.probes[index]
            if probe.read_out is None:
                raise PopulationError(
                    f"{_name(index, network)} has no readout that could answer for other states; give read_out to "
                    "Population.from_modules, e.g. read_out=lambda module, hidden: module.readout(hidden)."
                )
            logits.append(answer(network, probe.read_out, states, _name(index, network)))
        return torch.stack(logits)

    def member(self, index: int) -> nn.Module:
        """See `Bundle.member`; frozen and in evaluation mode, as it stands here."""
        return deepcopy(self.networks[index])

    def join(self, others: Sequence[Bundle]) -> Self:
        """See `Bundle.join`.

        Raises:
            PopulationError: another one is no `ModuleBundle`, or of other sizes.
        """
        networks, probes = list(self.networks), list(self.probes)
        for other in others:
            if not isinstance(other, ModuleBundle) or other.settings != self.settings:
                raise PopulationError(f"A bundle of kind {other.kind!r} {other.settings} cannot join {self.settings}.")
            networks += other.networks
            probes += other.probes
        return type(self)(copies(networks), probes, *self._sizes)

    def take(self, indices: Sequence[int]) -> Self:
        """See `Bundle.take`."""
        chosen = [int(index) for index in indices]
        return type(self)(copies([self.networks[i] for i in chosen]), [self.probes[i] for i in chosen], *self._sizes)

    @torch.no_grad()
    def averaged(self, shares: Sequence[float] | None = None) -> Self:
        """See `Bundle.averaged`; a copy of the first network with the mean of all parameters and float buffers.

        Raises:
            PopulationError: the networks are not built alike, so that no weight of one belongs to a weight of another.
        """
        first, *rest = weights = [_weights(network) for network in self.networks]
        for index, other in enumerate(rest, start=1):
            shapes = [{name: tensor.shape for name, tensor in own.items()} for own in (first, other)]
            if type(self.networks[index]) is not type(self.networks[0]) or shapes[0] != shapes[1]:
                raise PopulationError(
                    f"{_name(index, self.networks[index])} is not built like {_name(0, self.networks[0])}; weights can "
                    "be averaged only between networks of one class and sizes."
                )
        average = self.take([0])
        for name, tensor in _weights(average.networks[0]).items():
            if tensor.is_floating_point():
                tensor.copy_(weighted_mean(torch.stack([own[name] for own in weights]), shares))
        return average

    def _chosen(self, select: Tensor | None) -> list[int]:
        return list(range(self.count)) if select is None else [int(index) for index in select]


def copies(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """Independent copies; a table that several of them share (word vectors, say) is shared by the copies too.

    Raises:
        PopulationError: one cannot be copied.
    """
    memo: dict[int, Any] = {}
    made = []
    for index, module in enumerate(modules):
        try:
            made.append(deepcopy(module, memo))
        except Exception as error:
            raise PopulationError(f"modules[{index}] ({type(module).__name__}) cannot be copied: {error}") from error
    return made


def look(module: nn.Module, probe: Probe, inputs: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """What does one network do on inputs `[B, T]`?

    Args:
        module: the network.
        probe: how to look into it.
        inputs: token ids `[B, T]`.
        name: what errors call it.

    Returns:
        Hidden states `[B, T, H]` and logits `[B, T, C]`, float32.

    Raises:
        PopulationError: it fails, or does not return two tensors of these shapes.
    """
    by_forward = probe.observe is call
    remedy = "give observe, a function of module and inputs that returns" if by_forward else "observe has to return"
    remedy += " hidden states [B, T, H] and logits [B, T, C] at every step"
    culprit = "its forward" if by_forward else "observe"
    try:
        seen = probe.observe(module, inputs)
    except Exception as error:
        raise PopulationError(f"{name} cannot be run on inputs {list(inputs.shape)}: {error}; {remedy}.") from error
    if not isinstance(seen, tuple | list) or len(seen) != 2 or not all(isinstance(part, Tensor) for part in seen):
        kinds = [type(part).__name__ for part in seen] if isinstance(seen, tuple | list) else [type(seen).__name__]
        raise PopulationError(f"{name}: {culprit} returns {', '.join(kinds) or 'nothing'}; {remedy}.")
    hidden, logits = seen
    if not (hidden.is_floating_point() and logits.is_floating_point()):
        raise PopulationError(f"{name}: {culprit} returns {hidden.dtype} and {logits.dtype}, not floats; {remedy}.")
    if hidden.dim() != 3 or logits.dim() != 3 or not hidden.shape[:2] == logits.shape[:2] == inputs.shape:
        raise PopulationError(
            f"{name}: for inputs {list(inputs.shape)}, {culprit} returns hidden states {list(hidden.shape)} and logits "
            f"{list(logits.shape)}; {remedy}, items first."
        )
    return hidden.float(), logits.float()


def answer(module: nn.Module, read_out: ReadOut, hidden: Tensor, name: str) -> Tensor:
    """What does one network's readout say of hidden states `[B, T, H]`? Logits `[B, T, C]`, float32.

    Raises:
        PopulationError: the readout fails, or returns no tensor.
    """
    try:
        return read_out(module, hidden.to(precision(module))).float()
    except Exception as error:
        raise PopulationError(f"{name}: read_out fails on hidden states {list(hidden.shape)}: {error}") from error


def _name(index: int, module: nn.Module) -> str:
    return f"Network {index} of its bundle ({type(module).__name__})"


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, shared ones under each of their names."""
    return dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))


def precision(module: nn.Module) -> torch.dtype:
    """What a network computes in: the type of its first float parameter, float32 where it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
