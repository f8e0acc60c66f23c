"""Does everything fit together? What a `MetaTask` refuses, before any work is lost."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

import torch

from dynamo.population.artifact import Population
from dynamo.population.base import Bundle
from dynamo.population.manifest import PopulationError
from dynamo.population.members import Member
from dynamo.types import TaskBatch

log = logging.getLogger(__name__)


def check_options(
    dimensions: int, output_weight: float, burn_in: int, members_per_step: int | None, calibration_items: int
) -> None:
    """Refuse options out of their range.

    Raises:
        ValueError: naming option, value and remedy.
    """
    if dimensions < 1:
        raise ValueError(f"dimensions is {dimensions}; the map needs at least 1.")
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
        vocab_size: of the data module; 0 where its items are images.

    Raises:
        PopulationError: naming a member, and what it reads.
    """
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        offered = "tokens" if vocab_size else "images"
        if bundle.reads != offered:
            raise PopulationError(
                f"{members[0].name!r} reads {bundle.reads}, the data module has {offered}; use the data module the "
                "population was trained with."
            )
        if bundle.reads == "images":
            continue
        theirs = bundle.settings.get("vocab_size")
        if theirs is None:
            _check_last_token(bundle, members, vocab_size)
        elif theirs != vocab_size:
            raise PopulationError(
                f"{members[0].name!r} reads a vocabulary of {theirs}, the data module's has {vocab_size}; "
                "set data.init_args.vocab_size to the population's."
            )


def check_stages(population: Population, sizes: Sequence[int], network: str) -> None:
    """Refuse a meta-model that has other stages of states than the members.

    Args:
        population: the members.
        sizes: units of every stage of the meta-model.
        network: its class, for the message.

    Raises:
        PopulationError: naming a member.
    """
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        if len(bundle.hidden_sizes) != len(sizes):
            fitting = "ResidualMetaModel" if bundle.reads == "images" else "RecurrentMetaModel"
            raise PopulationError(
                f"{members[0].name!r} has {len(bundle.hidden_sizes)} stages of states, a {network} has {len(sizes)}; "
                f"set model.init_args.network.class_path to dynamo.meta.{fitting}."
            )


def check_readouts(population: Population, output_weight: float) -> None:
    """Refuse lambda = 0, where the members' own readouts answer for the emulators, if one has none to ask.

    Raises:
        PopulationError: naming a member of the bundle, and what to give.
    """
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        if output_weight == 0 and not bundle.has_readout:
            raise PopulationError(
                f"With output_weight (lambda) 0 the members' readouts answer, and that of {members[0].name!r} is not "
                "known; give read_out to Population.from_modules, e.g. lambda module, hidden: module.readout(hidden)."
            )


def check_data(population: Population, fingerprint: Mapping[str, str], tasks: Collection[str]) -> None:
    """Refuse data on which the members cannot be run: another vocabulary, or a task that is missing.

    Other items, or the same ones split otherwise, are allowed and get a warning.

    Args:
        population: the members.
        fingerprint: of the data module.
        tasks: of the data module.

    Raises:
        PopulationError: naming what differs.
    """
    missing = [task for task in population.tasks if task not in tasks]
    if missing:
        raise PopulationError(
            f"The population has members of task {missing[0]!r}, the data module only {', '.join(tasks)}; "
            "use the data module the population was trained with."
        )
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
                f"{member.name!r} cannot read the last of the data module's {vocab_size} words; set "
                f"data.init_args.vocab_size to the size it was trained with. ({error})"
            ) from error
