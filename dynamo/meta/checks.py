"""Does everything fit together? What a `MetaTask` refuses, before any work is lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dynamo.population.artifact import Population
from dynamo.population.manifest import PopulationError


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


def check_vocabulary_size(population: Population, vocab_size: int) -> None:
    """Refuse a data module whose vocabulary has another size than the members'.

    Raises:
        PopulationError: naming both sizes.
    """
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        theirs = bundle.settings.get("vocab_size")
        if theirs is not None and theirs != vocab_size:
            raise PopulationError(
                f"{members[0].name!r} reads a vocabulary of {theirs}, the data module's has {vocab_size}; "
                "set data.init_args.vocab_size to the population's."
            )


def check_data(population: Population, fingerprint: Mapping[str, str], tasks: Collection[str]) -> None:
    """Refuse data on which the members cannot be run: another vocabulary, or a task that is missing.

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
            "use the same data options for both (vocabulary size, data set, seed)."
        )
