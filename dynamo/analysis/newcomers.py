"""Where on a finished map does a network lie that the map has never seen? The meta-model stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from dynamo.analysis.emulation_fidelity import Batch, Compare
from dynamo.analysis.emulator import Emulator
from dynamo.meta.alignment import AlignmentKind, alignments_of
from dynamo.meta.calibration import calibrate
from dynamo.meta.checks import check_network, check_readouts
from dynamo.meta.comparison import Comparison, compared
from dynamo.meta.embedding import ModelEmbedding
from dynamo.meta.losses import Distance
from dynamo.population.artifact import Population
from dynamo.population.manifest import PopulationError
from dynamo.population.optimisation import (
    Schedule,
    adam,
    check_finite,
    check_weights,
    clip_per_member,
    learning_rate_factor,
)

_REMEDY = "Lower lr or theta_lr."


@dataclass(frozen=True)
class Fit:
    """How are theta and V of newcomers fitted? The defaults are those of `MetaTask`; take what the map was made with.

    Attributes:
        alignment: V_n: affine, identity or mlp.
        distance: d in L_hidden: l2 or l1.
        normalise: divide L_hidden by the spread of the newcomer's states.
        output_weight: lambda.
        burn_in: steps at the start of an item that count in no loss.
        steps: optimiser steps.
        lr: learning rate of V_n.
        theta_lr: learning rate of theta.
        alignment_weight_decay: decoupled weight decay of V_n.
        clip: largest norm of a newcomer's gradient; 0 for none.
        schedule: cosine, one_cycle or constant.
        warmup_steps: steps until the full learning rate.
        seed: of the first V_n.

    Raises:
        ValueError: an option out of its range.

    Examples:
        >>> from dynamo.analysis import Fit
        >>> Fit(steps=500, output_weight=0.0).alignment  # of a map of lambda = 0; V_n are affine
        'affine'
        >>> Fit(steps=0)
        Traceback (most recent call last):
        ValueError: steps is 0; it has to be at least 1.
    """

    alignment: AlignmentKind = "affine"
    distance: Distance = "l2"
    normalise: bool = True
    output_weight: float = 1.0
    burn_in: int = 0
    steps: int = 300
    lr: float = 3e-3
    theta_lr: float = 1e-2
    alignment_weight_decay: float = 0.0
    clip: float = 1.0
    schedule: Schedule = "cosine"
    warmup_steps: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no descent."""
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it has to be at least 1.")
        for name in ("lr", "theta_lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be above 0.")


@dataclass(frozen=True)
class Newcomers:
    """Where did the newcomers come to lie?

    Attributes:
        theta: their points on the map, `[M, D]`, in the order of the population's members.
        alignments: their V_n, frozen, `[bundle][stage]`.
        losses: L_hidden + lambda * L_output of every newcomer before each step, float64 on the CPU, `[steps, M]`.

    Examples:
        >>> import torch
        >>> from dynamo.analysis import Newcomers
        >>> losses = torch.tensor([[1.0, 1.0], [0.2, 0.4]]).double()
        >>> found = Newcomers(torch.zeros(2, 3), torch.nn.ModuleList(), losses)
        >>> found.losses[-1]  # before the last step; 1 is no better than the mean state
        tensor([0.2000, 0.4000], dtype=torch.float64)
    """

    theta: Tensor
    alignments: nn.ModuleList
    losses: Tensor


def embed_newcomers(
    network: Emulator, population: Population, calibration: Batch, batches: Iterable[Batch], fit: Fit
) -> Newcomers:
    """Where on the map do these networks lie?

    Minimises L_hidden + lambda * L_output of every newcomer, the loss of the map itself, over its theta (from 0) and
    its V_n (from the mean of its states) alone. The meta-model is frozen, and stays as it is bit for bit. Every
    newcomer's gradient is clipped by itself and no loss is divided by their number: but for the draw of its first V_n,
    where one comes to lie does not depend on who else comes.

    Args:
        network: the trained meta-model.
        population: M newcomers, on the network's device; they need not resemble the map's own members.
        calibration: items per task on which the spread of their states is measured.
        batches: training items, one batch per step, each with items of every task of the newcomers. No label is used.
        fit: how.

    Raises:
        ValueError: fewer batches than steps, or a batch without a newcomer's task.
        PopulationError: networks of a task or of classes that the map does not know, with other stages of states,
            without a readout where lambda is 0, or whose states never change.
        DivergenceError: a loss or a theta is no longer finite.

    Not in the paper, which trains all members of a map at once.

    Examples:
        >>> import torch
        >>> from dynamo import Population, TaskBatch
        >>> from dynamo.analysis import Fit, embed_newcomers
        >>> from dynamo.meta import RecurrentMetaModel
        >>> network = RecurrentMetaModel(9, {"film": 2}, dimensions=1, hidden_size=3)
        >>> def at_one(module, tokens):  # a newcomer that is the meta-model's own network at theta = 1
        ...     seen = module(torch.ones(1, 1), tokens, "film")
        ...     return seen.hidden[0][0], seen.output[0]
        >>> words = torch.randint(2, 9, (16, 5))
        >>> newcomer = Population.from_modules([network], at_one, example=words, task="film")
        >>> batch = {"film": TaskBatch(words, words[:, 0] % 2, torch.full((16,), 5))}
        >>> fit = Fit(alignment="identity", steps=100, theta_lr=0.05)
        >>> embed_newcomers(network, newcomer, batch, [batch] * 100, fit).theta.round(decimals=1)
        tensor([[1.]])
    """
    check_newcomers(network, population, fit.output_weight)
    assert isinstance(network, nn.Module)
    with torch.inference_mode(False), torch.enable_grad():
        frozen = copy.deepcopy(network).requires_grad_(False).eval()
        device = next(frozen.parameters()).device
        embeddings = nn.ModuleList(ModelEmbedding(b.count, network.dimensions) for b in population.bundles).to(device)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(fit.seed)
            alignments = alignments_of(fit.alignment, population, network.hidden_sizes).to(device)
        spread = calibrate(population, calibration, alignments, fit.burn_in, fit.distance)
        spreads = (spread if fit.normalise else torch.ones_like(spread)).split([b.count for b in population.bundles])

        def losses(batch: Batch) -> Tensor:
            """L_hidden + lambda * L_output of every newcomer, `[M]`."""
            _check_batch(batch, population)
            found = [
                part.losses(spreads[part.bundle], fit.distance, fit.burn_in)
                for part in compared(population, frozen, _theta(embeddings), alignments, batch)
            ]
            return torch.cat([part.hidden + fit.output_weight * part.output for part in found])

        names = [member.name for member in population.members]
        curve = _descend(losses, embeddings, alignments, batches, fit, names)
        theta = _theta(embeddings).detach()
    check_weights({"theta": theta}, names, fit.steps, _REMEDY)
    return Newcomers(theta, alignments.requires_grad_(False).eval(), curve)


def _descend(
    losses: Callable[[Batch], Tensor],
    embeddings: nn.ModuleList,
    alignments: nn.ModuleList,
    batches: Iterable[Batch],
    fit: Fit,
    names: Sequence[str],
) -> Tensor:
    """Fit theta and V_n to one batch after the other; the losses before each step, float64 on the CPU `[steps, M]`."""
    groups: list[dict[str, Any]] = [
        {"params": list(alignments.parameters()), "weight_decay": fit.alignment_weight_decay},
        {"params": list(embeddings.parameters()), "lr": fit.theta_lr},
    ]
    optimizer = adam([group for group in groups if group["params"]], fit.lr)  # an identity has nothing to fit
    rates = [group["lr"] for group in optimizer.param_groups]
    factor = learning_rate_factor(fit.schedule, fit.steps, fit.warmup_steps)
    curve: list[Tensor] = []
    for step, batch in enumerate(islice(batches, fit.steps)):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor(step)
        each = losses(batch)
        check_finite(each.detach(), names, step, _REMEDY)
        curve.append(each.detach())
        optimizer.zero_grad()
        each.sum().backward()
        for own in zip(embeddings, alignments, strict=True):
            clip_per_member([p for module in own for p in module.parameters()], fit.clip)
        optimizer.step()
    if len(curve) < fit.steps:
        raise ValueError(f"there are {len(curve)} batches for {fit.steps} steps; give one for each")
    optimizer.zero_grad()
    return torch.stack(curve).cpu().double()


def _theta(embeddings: nn.ModuleList) -> Tensor:
    """The points of all newcomers, bundle after bundle, `[M, D]`."""
    return torch.cat([embedding() for embedding in embeddings])


def check_newcomers(network: Emulator, population: Population, output_weight: float) -> None:
    """Refuse networks that this meta-model cannot emulate.

    Raises:
        PopulationError: naming a member, see `embed_newcomers`.
    """
    check_network(population, network)
    check_readouts(population, output_weight)
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        name, task = members[0].name, members[0].task
        if task not in network.classes:
            raise PopulationError(
                f"{name!r} does task {task!r}, the map knows {', '.join(network.classes)}; choose networks that do one "
                "of its tasks."
            )
        if bundle.classes != (known := network.classes[task]):
            raise PopulationError(
                f"{name!r} tells {bundle.classes} classes of task {task!r} apart, the networks of the map {known}; "
                "choose networks that answer with the same classes."
            )


def compare_newcomers(network: Emulator, population: Population, newcomers: Newcomers, fit: Fit) -> Compare:
    """How well are the newcomers emulated where they came to lie? What `emulation` and `Fidelity` are counted from.

    They run beside their emulators; with lambda = 0 their own readouts answer, as `MetaTask.compare` has it.

    Args:
        network: the trained meta-model.
        population: the newcomers.
        newcomers: what `embed_newcomers` found.
        fit: how it was asked to.

    Examples:
        >>> import torch
        >>> from dynamo import Population, TaskBatch
        >>> from dynamo.analysis import FidelitySums, Fit, compare_newcomers, embed_newcomers
        >>> from dynamo.meta import RecurrentMetaModel
        >>> from dynamo.population import RecurrentClassifier
        >>> network = RecurrentMetaModel(9, {"film": 2}, dimensions=1, hidden_size=3)
        >>> words = torch.randint(2, 9, (16, 5))
        >>> newcomer = Population.from_modules([RecurrentClassifier("gru", 9, 4, 3, classes=2)], task="film")
        >>> batch = {"film": TaskBatch(words, words[:, 0] % 2, torch.full((16,), 5))}
        >>> fit = Fit(steps=20)
        >>> found = embed_newcomers(network, newcomer, batch, [batch] * 20, fit)
        >>> (seen,) = compare_newcomers(network, newcomer, found, fit)(batch, [torch.tensor([0])])
        >>> tuple(seen.original.hidden[0].shape), tuple(seen.mapped[0].shape)
        ((1, 16, 5, 3), (1, 16, 5, 3))
    """
    own = fit.output_weight == 0

    def compare(batch: Batch, select: Sequence[Tensor]) -> Iterator[Comparison]:
        theta, alignments = newcomers.theta, newcomers.alignments
        return compared(population, network, theta, alignments, batch, select, own_readouts=own)

    return compare


def _check_batch(batch: Batch, population: Population) -> None:
    """Refuse a batch that would leave some newcomers out of a step."""
    missing = [task for task in population.tasks if task not in batch]
    if missing:
        raise ValueError(f"a batch has no items of task {missing[0]!r}, which newcomers read; give items of every task")
