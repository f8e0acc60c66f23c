"""Is the size of a structure found without writing it out?"""

from __future__ import annotations

from typing import Any

import pytest

from dynamo.expansion import ExpansionError, check_expansion


def parts(thing: Any) -> list[Any]:  # noqa: ANN401
    return thing if isinstance(thing, list) else []


def check(thing: Any, most: int = 1000, deepest: int = 100) -> None:  # noqa: ANN401
    check_expansion(thing, parts, most, deepest)


def test_the_bounds_are_exact() -> None:
    shared = [None, 1]  # 3 things, 2 deep
    thing = [shared, [shared, shared], None]  # 1 + 3 + (1 + 3 + 3) + 1 = 12 things, 4 deep
    check(thing, most=12, deepest=4)
    with pytest.raises(ExpansionError, match="more than 11 things"):
        check(thing, most=11)
    with pytest.raises(ExpansionError, match="more than 3 deep"):
        check(thing, deepest=3)


def test_what_is_shared_a_thousand_times_over_is_counted_in_no_time() -> None:
    thing: list[Any] = []
    for _ in range(1000):
        thing = [thing] * 10
    with pytest.raises(ExpansionError, match="more than 1,000 things"):
        check(thing, deepest=10_000)
    with pytest.raises(ExpansionError, match="more than 100 deep"):
        check(thing, most=10**2000)


def test_what_contains_itself_is_refused() -> None:
    inner: list[Any] = [1]
    thing = [[inner], inner]
    inner.append(thing)
    with pytest.raises(ExpansionError, match="lies within itself"):
        check(thing)


def test_depth_needs_no_recursion() -> None:
    thing: list[Any] = []
    for _ in range(100_000):
        thing = [thing]
    check(thing, most=10**6, deepest=10**6)
