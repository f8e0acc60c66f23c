"""How large does a nested structure get once everything that it shares is written out?

A file of a kilobyte can describe a list of ten lists that are each ten times one list, and so on: harmless in memory,
where the lists are shared, and endless for whatever walks through it. A structure may also contain itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


class ExpansionError(ValueError):
    """A structure is too large, too deep or without end; the message says which, the caller where it stands."""


def check_expansion(root: T, parts: Callable[[T], Iterable[T]], most: int, deepest: int) -> None:
    """Refuse a structure that could not be walked through.

    Time and memory: those of the structure as it is, shared.

    Args:
        root: where the walk begins.
        parts: what a thing directly consists of; every call gives the same things.
        most: how many things it may consist of, written out.
        deepest: how far they may lie one within the other.

    Raises:
        ExpansionError: there are more, or deeper ones, or one lies within itself.
    """
    known: dict[int, tuple[int, int]] = {}  # of everything walked through: size and depth
    path: list[tuple[T, Iterator[T]]] = [(root, iter(parts(root)))]
    above = {id(root)}
    while path:
        thing, rest = path[-1]
        if following := list(islice((part for part in rest if id(part) not in known), 1)):
            if id(following[0]) in above:
                raise ExpansionError("something in it lies within itself")
            path.append((following[0], iter(parts(following[0]))))
            above.add(id(following[0]))
            continue
        inner = [known[id(part)] for part in parts(thing)]
        size, depth = 1 + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)
        if size > most:
            raise ExpansionError(f"it consists of more than {most:,} things")
        if depth > deepest:
            raise ExpansionError(f"it is nested more than {deepest} deep")
        known[id(thing)] = (size, depth)
        above.discard(id(thing))
        path.pop()
