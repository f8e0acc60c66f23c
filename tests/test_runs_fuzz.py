"""Whatever lies in a run folder, or is given as a configuration: it is what it says, or one clear error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamo.runs import RunFolder, read_config
from dynamo.types import UserError

BrokenCopies = Callable[[bytes, int], Iterator[bytes]]
InChild = Callable[..., str]
CONFIGS = Path(__file__).parents[1] / "configs"
CONFIG = (CONFIGS / "population" / "demo.yaml").read_bytes()
FUZZ = settings(
    max_examples=1000,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def test_a_broken_result_is_read_as_json_reads_it_or_refused(tmp_path: Path, broken_copies: BrokenCopies) -> None:
    run, refused = RunFolder(tmp_path), 0
    content = {"loss": 0.5, "théta": [[1.0, 2.0], [3e-8, -1]], "mean": {"a": None, "b": True}, "text": "ü\n" * 9}
    path = run.write_result("fit", content)
    for copy in broken_copies(path.read_bytes(), 2000):
        path.write_bytes(copy)
        try:
            found = run.read_result("fit")
        except UserError:
            refused += 1
        else:
            assert isinstance(found, dict)
            assert json.dumps(found) == json.dumps(json.loads(copy))
    assert refused > 1000


@pytest.mark.parametrize("content", [b"[1]", b"3", b"\xff", b"", b"[" * 100_000, b"{" + b'"a":{' * 9_000, b"1" * 5000])
def test_a_result_of_anything_else_is_damaged(tmp_path: Path, content: bytes) -> None:
    run = RunFolder(tmp_path)
    run.write_result("fit", {}).write_bytes(content)
    with pytest.raises(UserError, match=r"fit\.json is damaged .*; delete it and run the stage 'fit' again"):
        run.read_result("fit")


def test_a_result_that_is_no_file_is_not_waited_for(tmp_path: Path, in_child: InChild) -> None:
    path = RunFolder(tmp_path).write_result("fit", {})
    path.chmod(0)
    run = RunFolder(Path())
    assert in_child(lambda: run.read_result("fit"), tmp_path, locked=True).startswith(
        "UserError: results/fit.json cannot"
    )
    path.parent.chmod(0)
    assert in_child(lambda: run.done("fit"), tmp_path, locked=True).startswith("UserError: results/fit.json cannot")
    path.parent.chmod(0o755)
    for make in (os.mkfifo, os.mkdir, lambda place: place.symlink_to("/dev/zero")):
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(UserError, match=r"fit\.json cannot be read"):
            RunFolder(tmp_path).read_result("fit")


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_project_s_own_configurations_are_read(path: Path) -> None:
    assert read_config(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_configuration_of_a_run_is_read(trained: Path) -> None:
    for kind in ("population", "meta"):
        path = RunFolder(trained / kind).config
        assert read_config(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_broken_configuration_is_read_as_yaml_reads_it_or_refused(
    tmp_path: Path, broken_copies: BrokenCopies
) -> None:
    refused = 0
    for copy in broken_copies(CONFIG[:1500], 1200):
        (tmp_path / "c.yaml").write_bytes(copy)
        try:
            found = read_config(tmp_path / "c.yaml")
        except UserError as error:
            refused += 1
            complaint = str(error)
            assert "\n" not in complaint
        else:
            assert found == yaml.safe_load(copy.decode())
    assert 400 < refused < 1200


WORDS = st.sampled_from(
    ["!!timestamp x", "!!int ''", "!!int '0x'", "!!bool x", "!!float ''", "!!binary é", "!!null x", "!x y",
     "!!python/object/apply:os.mkdir [x]",
     "!!python/name:os.system", "!!python/module:os", "!!set {a}", "!!omap [a]", "!!pairs [a]",
     "!!str", "!!map", "!!seq",
     "2020-13-45", "1:99:99", "0o99", "1e999", ".nan", "9" * 5000, "&a", "*a", "&a [*a]", "<<: *a",
     "<<: x", "? [a]: b", "? {a: b}: c", "[", "]", "{", "}", ":", "- ", "\n", "  ", ", ", "a: ", "b", "'", '"', "|",
     ">", "%", "@", "`", "#", "---\n", "...\n", "%YAML 9.9\n", "\t", "\x07", "\ufeff", "=", "~", "{a: b}", "[[[[["]
)  # fmt: skip


@FUZZ
@given(words=st.lists(WORDS, max_size=12))
def test_no_meeting_of_words_does_more_than_yaml_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("".join(words), encoding="utf-8")
    try:
        found = read_config(Path("c.yaml"))
    except UserError:
        pass
    else:
        assert repr(found) == repr(yaml.safe_load("".join(words)))
    assert os.listdir(tmp_path) == ["c.yaml"]  # noqa: PTH208 - nothing was run


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{b: *a{n - 1}, c: *a{n - 1}}}\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (LAUGHS, "consists of more than 20,000 things"),
        (MERGED, "consists of more than 20,000 things"),
        ("a: &a [*a]", "lies within itself"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 50 deep"),
        ("a: " + "[" * 5000, "no sound configuration"),
        ("a: !!timestamp x", "no sound configuration"),
        ("a: !!int ''", "no sound configuration"),
        ("a: !!bool x", "no sound configuration"),
        ("a: 2020-13-45", "no sound configuration"),
        ("a: " + "9" * 5000, "no sound configuration"),
        ("a: !!python/object/apply:os.mkdir [x]", "could not determine a constructor for the tag"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: \x00", "no sound configuration"),
        ("", "it holds no table"),
        ("- a", "it holds no table"),
        ("1: a", "it holds no table"),
    ],
    ids=range(16),
)
def test_what_is_no_configuration_is_named(tmp_path: Path, in_child: InChild, content: str, match: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(UserError, match=rf"c\.yaml .*{match}.*Correct it, or take another one\.") as caught:
        read_config(tmp_path / "c.yaml")
    assert len(str(caught.value)) < 600
    assert in_child(lambda: read_config(tmp_path / "c.yaml"), tmp_path, memory=64 << 20).startswith("UserError")


def test_a_configuration_that_is_no_file_is_named(tmp_path: Path, in_child: InChild) -> None:
    with pytest.raises(UserError, match=r"c\.yaml is missing"):
        read_config(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_bytes(CONFIG)
    (tmp_path / "c.yaml").chmod(0)
    assert in_child(lambda: read_config(Path("c.yaml")), tmp_path, locked=True).startswith("UserError: c.yaml cannot")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "large", Path("/dev/zero"), tmp_path / "\ud800"):
        with pytest.raises(UserError, match="cannot be read"):
            read_config(path)
    (tmp_path / "latin").write_bytes(b"a: caf\xe9")
    with pytest.raises(UserError, match="no sound configuration"):
        read_config(tmp_path / "latin")
