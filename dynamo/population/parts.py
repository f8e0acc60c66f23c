"""How is a large population trained in parts, by independent jobs, and put together again?

A part notes in its manifest's configuration, under `part`, which members it holds and how the whole is trained. From
that `complete` restores the order of the whole, and says what is missing, twice there, or of another configuration.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from dynamo.population.manifest import PopulationError

if TYPE_CHECKING:
    from dynamo.population.artifact import Population
    from dynamo.population.base import Bundle
    from dynamo.population.members import Member

log = logging.getLogger(__name__)

KEY: Final = "part"
"""Where a population's configuration says that it is a part."""
OPTION: Final = "model.init_args.members"


def parse_positions(text: str, total: int) -> list[int]:
    """Which positions does "0-4,8" name? Ascending; ranges include their ends.

    Args:
        text: positions and ranges of them, with commas between.
        total: how many members there are, numbered from 0.

    Raises:
        ValueError: it is no such list, or names a member twice or one that is not there.
    """
    positions: list[int] = []
    for word in str(text).split(","):
        found = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", word, re.ASCII)
        if found is None:
            raise ValueError(f"members is {text!r}; write positions and ranges, such as 0-9 or 0-4,8.")
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last:
            raise ValueError(f"members is {text!r}; {word.strip()} holds nobody: write the smaller number first.")
        if last >= total:
            raise ValueError(f"members is {text!r}, but there are {total} members: positions go from 0 to {total - 1}.")
        positions += range(first, last + 1)
    twice = sorted(position for position, times in Counter(positions).items() if times > 1)
    if twice:
        raise ValueError(f"members is {text!r}, which names {spell(twice)} twice; name each member once.")
    return sorted(positions)


def warn_of_threads(device: torch.device, counts: Sequence[int]) -> None:
    """Say where the members of a part may not have the bits that they have in the whole; see `company`.

    Args:
        device: where they are trained.
        counts: members of every bundle.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu":
        log.warning("On this device the members of a part equal those of the whole to rounding, not bit for bit.")
    elif 2 < threads > min(counts):
        log.warning(
            f"{min(counts)} members of one kind and {threads} threads: on some processors the last bits of this part "
            f"differ from the whole's. Take larger parts, or set OMP_NUM_THREADS={max(2, min(counts))} for all of them."
        )


def spell(positions: Sequence[int]) -> str:
    """The opposite of `parse_positions`: ascending positions -> "0-4,8"."""
    runs: list[list[int]] = []
    for position in positions:
        if runs and runs[-1][1] == position - 1:
            runs[-1][1] = position
        else:
            runs.append([position, position])
    return ",".join(f"{first}-{last}" if first < last else str(first) for first, last in runs)


class Part(NamedTuple):
    """What a population says of itself as a part.

    Attributes:
        positions: of its members in the whole.
        total: how many members the whole has.
        whole: how the whole is trained: equal in all its parts.
    """

    positions: list[int]
    total: int
    whole: dict[str, Any]

    @classmethod
    def of(cls, population: Population) -> Part | None:
        """What it says, or None where it is no part.

        Raises:
            PopulationError: what it says is not sound.
        """
        if KEY not in population.config:
            return None
        try:
            own = population.config[KEY]
            whole, total = dict(own["whole"]), int(own["total"])
            positions = parse_positions(own["members"], total)
            if len(positions) != len(population):
                raise ValueError(f"{len(population)} members at {len(positions)} positions")
        except (KeyError, TypeError, ValueError) as error:
            name = population.members[0].name
            raise PopulationError(f"The part with {name!r} has no sound {KEY!r} in its manifest: {error}.") from error
        others = {name: value for name, value in population.config.items() if name != KEY}
        return cls(positions, total, {**others, **whole, "fingerprint": population.fingerprint})


def note_part(positions: Sequence[int], total: int, whole: Mapping[str, Any]) -> dict[str, Any]:
    """What a part writes into its configuration; read by `Part.of`."""
    return {KEY: {"members": spell(positions), "total": total, "whole": dict(whole)}}


def complete(populations: Sequence[Population]) -> list[Population]:
    """The same populations, with the parts of each whole put together in its order, at the place of the first.

    Raises:
        PopulationError: members are missing, or there twice, or parts are of different configurations.
    """
    found: dict[str, list[tuple[Part | None, Population]]] = {}
    for number, population in enumerate(populations):
        part = Part.of(population)
        key = f"alone {number}" if part is None else json.dumps([part.total, part.whole], sort_keys=True)
        found.setdefault(key, []).append((part, population))
    wholes = [[(part, population) for part, population in group if part is not None] for group in found.values()]
    lacking = [(parts[0][0], missing) for parts in wholes if parts and (missing := _check(parts))]
    if lacking:
        raise PopulationError(_incomplete(*lacking[0], [part for part, _ in lacking[1:]]))
    return [_put_together(parts) if parts else group[0][1] for parts, group in zip(wholes, found.values(), strict=True)]


def _check(parts: Sequence[tuple[Part, Population]]) -> list[int]:
    """The positions that are missing; a member that is there twice is an error."""
    seen: dict[int, int] = {}
    for number, (part, population) in enumerate(parts):
        for position, member in zip(part.positions, population.members, strict=True):
            if seen.setdefault(position, number) != number:
                first = spell(parts[seen[position]][0].positions)
                raise PopulationError(
                    f"{member.name!r}, member {position} of the whole, is in two parts (members {first} and "
                    f"{spell(part.positions)}): name each part once, or train parts that do not overlap."
                )
    return [position for position in range(parts[0][0].total) if position not in seen]


def _incomplete(first: Part, missing: Sequence[int], others: Sequence[Part]) -> str:
    """What to say of a part whose whole lacks members, beside parts of other wholes that do."""
    for other in others:
        for name in sorted({*first.whole, *other.whole}):
            old, new = first.whole.get(name), other.whole.get(name)
            if old != new:
                return (
                    f"The parts (members {spell(first.positions)} and {spell(other.positions)}) were trained in "
                    f"different ways: {name} is {_short(old)} and {_short(new)}. Train one again like the other."
                )
    return (
        f"Of a population of {first.total} members {spell(missing)} are missing: train them with "
        f"--{OPTION} {spell(missing)} and name that folder too."
    )


def _short(value: Any) -> str:  # noqa: ANN401 - whatever a configuration holds
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _put_together(parts: Sequence[tuple[Part, Population]]) -> Population:
    """The whole population of all its parts, as if it had been trained at once."""
    alike: dict[str, list[tuple[Bundle, list[tuple[int, Member]]]]] = {}
    for part, population in parts:
        positions = iter(part.positions)
        for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
            key = json.dumps([bundle.kind, members[0].task, bundle.settings], sort_keys=True)
            alike.setdefault(key, []).append((bundle, [(next(positions), member) for member in members]))
    joined = []
    for same in alike.values():
        placed = [place for _, places in same for place in places]
        order = sorted(range(len(placed)), key=lambda index: placed[index][0])
        bundle = same[0][0].join([bundle for bundle, _ in same[1:]])
        joined.append((bundle.take(order), [placed[index] for index in order]))
    joined.sort(key=lambda entry: entry[1][0][0])
    return parts[0][1].with_members(
        [[member for _, member in places] for _, places in joined], [bundle for bundle, _ in joined]
    )
