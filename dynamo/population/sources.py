"""Where populations come from: folders, lists of folders, patterns of folders, and memory, whole or not."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from dynamo.population.artifact import Population
from dynamo.population.manifest import PopulationError


def leave_out(population: Population, names: Sequence[str]) -> Population:
    """The population without some of its members.

    Raises:
        PopulationError: there is no such member, or none would be left.
    """
    _check_known(population, names, "leave out")
    if set(names) >= {member.name for member in population.members}:
        raise PopulationError(f"All {len(population)} members would be left out; leave some for the map.")
    return population.filtered(lambda member: member.name not in names)


def keep(population: Population, names: Sequence[str]) -> Population:
    """Some members of the population alone, in its own order.

    Raises:
        PopulationError: there is no such member.
    """
    _check_known(population, names, "keep")
    return population.filtered(lambda member: member.name in names)


def _check_known(population: Population, names: Sequence[str], purpose: str) -> None:
    """Refuse the name of nobody."""
    known = [member.name for member in population.members]
    missing = [name for name in names if name not in known]
    if missing:
        raise PopulationError(f"No member {missing[0]!r} to {purpose}; the population has {', '.join(known)}.")


def load_populations(places: str | Sequence[str] | Population) -> Population:
    """One population from one or many folders; one that is in memory already is handed through as it is.

    Args:
        places: a folder, folders, or patterns such as `runs/x/snapshots/*` (in the order of their names).

    Raises:
        PopulationError: nothing is there, or what is there cannot be read or joined.

    Examples:
        >>> from dynamo import Population
        >>> from dynamo.population import RecurrentClassifier, load_populations
        >>> for part in ("a", "b"):
        ...     network = RecurrentClassifier("gru", vocab_size=9, embedding_size=4, hidden_size=3, classes=2)
        ...     _ = Population.from_modules([network], groups=[part]).save(f"runs/{part}")
        >>> [member.name for member in load_populations("runs/*").members]
        ['a-0', 'b-0']
    """
    if isinstance(places, Population):
        return places
    places = [places] if isinstance(places, str) else places
    if not isinstance(places, list | tuple) or not all(isinstance(place, str) for place in places):
        kinds = sorted({type(place).__name__ for place in places}) if isinstance(places, list | tuple) else []
        told = f"a list of {', '.join(kinds)}" if kinds else f"a {type(places).__name__}"
        raise PopulationError(
            f"population is {told}; give a folder, a list of folders, or a Population: networks in memory become one "
            "by Population.from_modules."
        )
    folders: list[str] = []
    patterns = False
    for place in places:
        # `os.path`: what no path can be is no folder, and has its error from whoever reads it
        pattern = glob.has_magic(place) and not os.path.exists(place)  # noqa: PTH110
        found = sorted(glob.glob(place)) if pattern else [place]  # noqa: PTH207 - absolute patterns too
        if not found:
            raise PopulationError(
                f"No folder matches {place!r}. Train the population first (its configuration stands in "
                "configs/population), or correct the pattern."
            )
        folders.extend(found)
        patterns = patterns or pattern
    if not folders:
        raise PopulationError("No population folder is given; name at least one.")
    for folder in folders:
        _check_is_no_function(folder)
    populations = [Population.load(folder) for folder in folders]
    if len(populations) == 1 and not patterns:
        return populations[0]  # though it may be a part: it was asked for by name
    return Population.join(populations)


def _check_is_no_function(place: str) -> None:
    """Refuse an import path: where it comes as a text still, the command line took its function for none that fits."""
    parts = place.split(".")
    if len(parts) > 1 and all(part.isidentifier() for part in parts) and not os.path.lexists(place):
        raise PopulationError(
            f"No population at {place}. If it is a function of yours, its module has to be importable from here and "
            f"it has to say what it returns: def {parts[-1]}() -> dynamo.Population."
        )
