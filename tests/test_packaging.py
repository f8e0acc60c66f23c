"""Do the places that say the same thing about versions say the same thing?"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_oldest_stack_is_the_one_of_the_lower_bounds() -> None:
    lines = (ROOT / ".ci" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    for requirement in PROJECT["dependencies"]:
        name, bound = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+).*", requirement).groups()  # type: ignore[union-attr]
        assert pinned[name] == bound or pinned[name].startswith(f"{bound}."), requirement


def test_the_newest_version_stands_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)[0]
    assert first in ("Unreleased", PROJECT["version"])
