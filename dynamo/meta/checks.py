"""Does everything fit together? What a `MetaTask` refuses, before any work is lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol, get_args

import torch

from dynamo.meta.alignment import AlignmentKind
from dynamo.meta.losses import Distance
from dynamo.population.artifact import Population
from dynamo.population.base import Bundle
from dynamo.population.manifest import PopulationError
from dynamo.population.members import Member
from dynamo.population.modules import ModuleBundle
from dynamo.population.optimisation import check_choice
from dynamo.population.residual import IMAGE
from dynamo.types import Reads, TaskBatch

log = logging.getLogger(__name__)


class Staged(Protocol):
    """What a meta-model shows of itself."""

    @property
    def reads(self) -> Reads:
        """What its items are."""
        ...

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Units of every stage."""
        ...

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """Of every stage `(h, w)` where it is a feature map, else `()`."""
        ...


def check_options(
    dimensions: int,
    alignment: str,
    distance: str,
    output_weight: float,
    burn_in: int,
    members_per_step: int | None,
    calibration_items: int,
) -> None:
    """Refuse options out of their range.

    Raises:
        ValueError: naming option, value and remedy.
    """
    if not isinstance(dimensions, int) or dimensions < 1:
        raise ValueError(f"dimensions is {dimensions}; the map needs a whole number of at least 1.")
    check_choice("alignment", alignment, get_args(AlignmentKind))
    check_choice("distance", distance, get_args(Distance))
    if output_weight < 0:
        raise ValueError(f"output_weight (lambda) is {output_weight}; it cannot be negative, 0 leaves outputs out.")
    if burn_in < 0:
        raise ValueError(f"burn_in is {burn_in}; it cannot be negative.")
    if members_per_step is not None and members_per_step < 1:
        raise ValueError(f"members_per_step is {members_per_step}; leave it out for all members.")
    if calibration_items < 2:
        raise ValueError(f"calibration_items is {calibration_items}; a spread needs at least 2 items.")


def check_inputs(population: Population, vocab_size: int) -> None:
    """Refuse a data module whose items the members cannot read: images for words, or a vocabulary of another size.

    Args:
        population: the members.
        vocab_size: of the data module; 0 where its items are no words.

    Raises:
        PopulationError: naming a member, and what it reads.
    """
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        if (bundle.reads == "tokens") != bool(vocab_size):
            offered = "words" if vocab_size else "no words"
            raise PopulationError(
                f"{members[0].name!r} reads {bundle.reads}, the data module has {offered} (vocab_size {vocab_size}); "
                "take a data module with what they read, and in Python hand its number of words on: "
                "MetaTask(population, vocab_size=data.vocab_size)."
            )
        if bundle.reads != "tokens":
            continue
        theirs = bundle.settings.get("vocab_size")
        if theirs is None:
            _check_last_token(bundle, members, vocab_size)
        elif theirs != vocab_size:
            raise PopulationError(
                f"{members[0].name!r} reads a vocabulary of {theirs}, the data module's has {vocab_size}; "
                "set vocab_size of the data module to the population's."
            )


def check_network(population: Population, network: Staged) -> None:
    """Refuse a meta-model that reads something else than the members, or has other stages of states.

    Args:
        population: the members.
        network: F and G.

    Raises:
        PopulationError: naming a member, and what to take.
    """
    kind = type(network).__name__
    remedy = "; leave model.init_args.network out, and one that matches is taken"
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        name, stages = members[0].name, len(bundle.hidden_sizes)
        if bundle.reads != network.reads:
            raise PopulationError(f"{name!r} reads {bundle.reads}, a {kind} reads {network.reads}{remedy}.")
        if stages != len(network.hidden_sizes):
            raise PopulationError(
                f"{name!r} has {stages} stages of states, this {kind} has {len(network.hidden_sizes)}{remedy}."
            )
        theirs, ours = ([one or (1, 1) for one in owner.positions] for owner in (bundle, network))
        if theirs != ours:
            raise PopulationError(
                f"The stages of {name!r} have the positions {theirs}, those of this {kind} {ours}; set its positions "
                f"to the former, or its strides{remedy}."
            )


def check_readouts(population: Population, output_weight: float) -> None:
    """Refuse lambda = 0, where the members' own readouts answer for the emulators, if one has none to ask.

    And refuse lambda > 0 where nobody answers anything.

    Raises:
        PopulationError: naming a member of the bundle, and what to give.
    """
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        if output_weight == 0 and bundle.classes and not bundle.has_readout:
            raise PopulationError(
                f"With output_weight (lambda) 0 the members' readouts answer, and that of {members[0].name!r} is not "
                "known; give read_out to Population.from_modules, the name of the layer or a function such as "
                "lambda module, hidden: module.readout(hidden)."
            )
        if output_weight > 0 and not bundle.classes:
            raise PopulationError(
                f"{members[0].name!r} has states and no answers to compare; set output_weight (lambda) to 0, or tell "
                "Population.from_modules where its logits are: observe(..., output='LAYER')."
            )


def check_data(
    population: Population,
    fingerprint: Mapping[str, str],
    tasks: Mapping[str, Sequence[str]],
    items: Mapping[str, TaskBatch],
) -> None:
    """Refuse data on which the members cannot be run: another vocabulary, a task that is missing, other items.

    Other items, or the same ones split otherwise, are allowed and get a warning.

    Args:
        population: the members.
        fingerprint: of the data module.
        tasks: of the data module, with the names of their classes.
        items: a few of each task.

    Raises:
        PopulationError: naming what differs.
    """
    missing = [task for task in population.tasks if task not in tasks]
    if missing:
        raise PopulationError(
            f"The population has members of task {missing[0]!r}, the data module only {', '.join(tasks)}; "
            "use the data module the population was trained with, or name the task of your own: "
            f"TensorDataModule(..., task={missing[0]!r})."
        )
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        _check_items(bundle, members[0], len(tasks[members[0].task]), items[members[0].task])
    mine, theirs = (prints.get("vocabulary") for prints in (population.fingerprint, fingerprint))
    if mine and theirs and mine != theirs:
        raise PopulationError(
            f"The population was trained with vocabulary {mine[:8]}, the data module has {theirs[:8]}; "
            "use the same data options for both (data set, vocabulary size, classes, split)."
        )
    mine, theirs = (prints.get("data") for prints in (population.fingerprint, fingerprint))
    if mine and theirs and mine != theirs:
        log.warning(
            "The population was trained on other items than the data module has: what is measured on its validation "
            "split may be items that members were trained on. Test items are safe if the source is the same."
        )


def item_of(bundle: Bundle) -> tuple[int, ...]:
    """The shape of an input without batch and steps; `()` for words."""
    if isinstance(bundle, ModuleBundle):
        return bundle.form.item
    return IMAGE if bundle.reads == "images" else ()


def inputs_of(bundle: Bundle) -> str:
    """What the networks of a bundle read, in words: `signals of 3 numbers`."""
    item = item_of(bundle)
    return f"{bundle.reads} of {'x'.join(map(str, item))} numbers" if item else bundle.reads


def _check_items(bundle: Bundle, member: Member, classes: int, items: TaskBatch) -> None:
    """Whether these are the items, and no more classes than the answers, of the networks of a bundle."""
    item = item_of(bundle)
    if items.reads != bundle.reads or tuple(items.inputs.shape[items.inputs.dim() - len(item) :]) != item:
        raise PopulationError(
            f"{member.name!r} reads {inputs_of(bundle)}, the data module has {items.reads} "
            f"{list(items.inputs.shape)}; use the inputs the population was trained on."
        )
    if bundle.classes and classes > bundle.classes:
        raise PopulationError(
            f"{member.name!r} tells {bundle.classes} classes apart, the labels of the data module {classes}; give "
            f"labels from 0 to {bundle.classes - 1}, or none: the meta-model reads no label."
        )


@torch.inference_mode()
def _check_last_token(bundle: Bundle, members: Sequence[Member], vocab_size: int) -> None:
    """Whether networks that do not say how many words they know can read the last one of the data module."""
    device = next((p.device for p in bundle.parameters()), torch.device("cpu"))
    last = torch.full((2, 3), vocab_size - 1, device=device)
    items = TaskBatch(last, last[:, 0], torch.full((2,), 3, device=device))
    for index, member in enumerate(members):
        try:
            bundle(items, torch.tensor([index]))
        except PopulationError as error:
            raise PopulationError(
                f"{member.name!r} cannot read the last of the data module's {vocab_size} words; set vocab_size of the "
                f"data module to the size it was trained with. ({error})"
            ) from error
