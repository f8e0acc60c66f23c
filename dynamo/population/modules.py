"""Networks of anybody's make, run one after the other: `ModuleBundle`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor, nn

from dynamo.population.base import Bundle, weighted_mean
from dynamo.population.hooks import Probe
from dynamo.population.manifest import PopulationError
from dynamo.population.observation import Form, Seen, answer, look
from dynamo.types import TaskBatch, Trajectory

DIMENSIONS: Final = {"tokens": 2, "signals": 3, "vectors": 2, "images": 4}
"""Of inputs that all networks share."""


class ModuleBundle(Bundle):
    """How do networks of anybody's make run as a bundle? One after the other, without gradients, in evaluation mode.

    They may be of different classes and architectures, as long as they are of one form: what they read, how many
    units their stages have, how many classes. States and logits are handed on in float32, the precision of
    meta-models, whatever the networks compute in.

    Args:
        modules: taken over, not copied: they are frozen and stay in evaluation mode. `Population.from_modules`
            hands in copies.
        probes: how to look into each of them.
        form: what kind of networks they are.

    Raises:
        ValueError: there are not as many probes as modules.

    Examples:
        >>> import torch
        >>> from dynamo import Population, TaskBatch
        >>> def observe(network, words):  # of a network of your own: states [B, T, H], logits [B, T, C]
        ...     states, _ = network(torch.nn.functional.one_hot(words, 9).float())
        ...     return states, states[..., :2]
        >>> population = Population.from_modules([torch.nn.LSTM(9, 4, batch_first=True) for _ in range(2)], observe)
        >>> items = TaskBatch(torch.tensor([[2, 3, 4]]), torch.tensor([0]), torch.tensor([3]))
        >>> population.bundles[0].kind, population.bundles[0](items).hidden[0].shape
        ('modules', torch.Size([2, 1, 3, 4]))
    """

    kind: ClassVar[str] = "modules"

    def __init__(self, modules: Sequence[nn.Module], probes: Sequence[Probe], form: Form) -> None:
        super().__init__()
        if len(probes) != len(modules):
            raise ValueError(f"{len(modules)} modules were given {len(probes)} probes; each needs one.")
        self.count = len(modules)
        self.networks = nn.ModuleList(modules)
        self.probes = tuple(probes)
        self.form = form
        self.reads = form.reads
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a base model is watched, never trained."""
        return super().train(False)

    @property
    def settings(self) -> dict[str, Any]:
        """See `Bundle.settings`; what two bundles must share to be joined, though no network can be built from it."""
        return self.form._asdict()

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
        return self.form.hidden_sizes

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """See `Bundle.positions`."""
        return self.form.positions

    @property
    def classes(self) -> int:
        """C; 0 where the networks have no answers."""
        return self.form.classes

    @property
    def has_readout(self) -> bool:
        """See `Bundle.has_readout`."""
        return all(probe.read_out is not None for probe in self.probes)

    @torch.no_grad()
    def forward(self, batch: TaskBatch, select: Tensor | None = None) -> Trajectory:
        """See `Bundle.forward`; hidden `[n, B, T, H]`, or maps, of every stage.

        Raises:
            PopulationError: a network fails, or does not show what it showed when it was taken in.
        """
        chosen = self._chosen(select)
        if batch.inputs.dim() == DIMENSIONS[self.reads] + 1:
            lengths = batch.lengths.expand(batch.inputs.shape[:2])
            each = [batch._replace(inputs=own, lengths=n) for own, n in zip(batch.inputs, lengths, strict=True)]
        else:
            each = [batch] * len(chosen)
        if len(each) != len(chosen):
            raise ValueError(f"{len(chosen)} networks were given items for {len(each)}; each needs its own.")
        seen = [self._look(index, items) for index, items in zip(chosen, each, strict=True)]
        hidden = tuple(torch.stack(stage) for stage in zip(*(one.hidden for one in seen), strict=True))
        return Trajectory(hidden, torch.stack([one.output for one in seen]))

    def _look(self, index: int, items: TaskBatch) -> Seen:
        """What one network does. One that answers once reads every item without the padding that follows it."""
        network, probe, name = self.networks[index], self.probes[index], _name(index, self.networks[index])
        seen = _as(self.form, look(network, probe, items.inputs, name), name)
        if self.form.stepwise or not items.sequential or not self.classes:
            return seen
        for length in items.lengths.unique().tolist():
            if length < items.inputs.shape[1]:
                chosen = items.lengths == length
                alone = _as(self.form, look(network, probe, items.inputs[chosen, :length], name), name)
                seen.output[chosen] = alone.output
        return seen

    @torch.no_grad()
    def read_out(self, hidden: Tensor, select: Tensor | None = None) -> Tensor:
        """See `Bundle.read_out`; by the `read_out` that came with the networks.

        Raises:
            PopulationError: none came with them.
        """
        flat = self.form.positions[-1] == () and hidden.dim() == 5  # a layer without positions: one of them
        logits = []
        for index, states in zip(self._chosen(select), hidden.flatten(2) if flat else hidden, strict=True):
            network, probe = self.networks[index], self.probes[index]
            if probe.read_out is None:
                raise PopulationError(
                    f"{_name(index, network)} has no readout that could answer for other states; give read_out to "
                    "Population.from_modules: the name of the layer, or a function such as "
                    "lambda module, hidden: module.readout(hidden)."
                )
            logits.append(answer(network, probe.read_out, states, _name(index, network)))
        return torch.stack(logits)

    def member(self, index: int) -> nn.Module:
        """See `Bundle.member`; frozen and in evaluation mode, as it stands here."""
        return copies([self.networks[index]])[0]

    def join(self, others: Sequence[Bundle]) -> Self:
        """See `Bundle.join`.

        Raises:
            PopulationError: another one is no `ModuleBundle`, or of another form.
        """
        networks, probes = list(self.networks), list(self.probes)
        for other in others:
            if not isinstance(other, ModuleBundle) or other.settings != self.settings:
                raise PopulationError(f"A bundle of kind {other.kind!r} {other.settings} cannot join {self.settings}.")
            networks += other.networks
            probes += other.probes
        return type(self)(copies(networks), probes, self.form)

    def take(self, indices: Sequence[int]) -> Self:
        """See `Bundle.take`."""
        chosen = [int(index) for index in indices]
        return type(self)(copies([self.networks[i] for i in chosen]), [self.probes[i] for i in chosen], self.form)

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
        for part in made[-1].modules():
            if isinstance(part, nn.RNNBase):  # cuDNN wants weights in one piece of memory, and says so at every call
                part.flatten_parameters()
    return made


def _as(form: Form, seen: Seen, name: str) -> Seen:
    """What a network showed, if it is of its bundle's form; at a single step one answer is the answer at every step."""
    output = seen.output
    if seen.form.stepwise != form.stepwise and seen.hidden[0].shape[1] == 1:
        output = output.unsqueeze(1) if form.stepwise else output.squeeze(1)
        seen = Seen(seen.hidden, output, seen.form._replace(stepwise=form.stepwise))
    if seen.form != form:
        names = [field for field in form._fields if getattr(form, field) != getattr(seen.form, field)]
        told = ", ".join(f"{field} {getattr(seen.form, field)} in place of {getattr(form, field)}" for field in names)
        raise PopulationError(f"{name} shows something else than when it was taken in: {told}.")
    return seen


def _name(index: int, module: nn.Module) -> str:
    return f"Network {index} of its bundle ({type(module).__name__})"


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, shared ones under each of their names."""
    return dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
