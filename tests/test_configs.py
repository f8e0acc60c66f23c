"""Does every configuration say what it is for, how to run it, how long it takes and what came out?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
OVERLAYS = ("debug", "hardware")  # laid over another configuration: they have no time and no result


def header(config: Path) -> str:
    """The comment lines at the top of the file."""
    lines = config.read_text(encoding="utf-8").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[:end])


def test_there_are_configurations() -> None:
    assert CONFIGS


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_header_is_complete(config: Path) -> None:
    is_overlay = config.relative_to(ROOT / "configs").parts[0] in OVERLAYS
    labels = ("Purpose", "Command") if is_overlay else ("Purpose", "Command", "Time", "Seen")
    missing = [label for label in labels if not re.search(rf"^# *{label}: *\S", header(config), re.MULTILINE)]
    assert missing == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_header_names_files_that_exist(config: Path) -> None:
    named = re.findall(r"configs/[\w/.-]+\.yaml", header(config))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_is_a_mapping_without_duplicate_keys(config: Path) -> None:
    """YAML takes the last of two equal keys without a word."""
    node = yaml.compose(config.read_text(encoding="utf-8"))
    assert isinstance(node, yaml.MappingNode)
    pending: list[yaml.Node] = [node]
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1}: a key stands there twice"
            pending += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value
