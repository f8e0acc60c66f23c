"""Benchmarks live in `bench_*.py`; what they report with the fixture `table` is printed at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dynamo.memory import keep_memory

ROWS = pytest.StashKey[list[str]]()


def pytest_configure() -> None:
    """Measure under the allocator settings of the command `dynamo`; they hold for both sides of a comparison."""
    keep_memory()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect `bench_*.py`: pytest by itself looks for `test_*.py` alone."""
    named = parent.session.isinitpath(file_path)  # pytest collects what the command line names by itself
    wanted = file_path.name.startswith("bench_") and file_path.suffix == ".py" and not named
    return pytest.Module.from_parent(parent, path=file_path) if wanted else None


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Takes one line of the table that is printed when all benchmarks have run."""
    return pytestconfig.stash.setdefault(ROWS, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the collected lines."""
    for line in config.stash.get(ROWS, []):
        terminalreporter.write_line(line)
