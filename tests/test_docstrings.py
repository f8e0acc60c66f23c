"""Does every public name say what it is, with shapes, errors and an example that runs?

The names are those in the `__all__` of the packages. What a docstring has to hold follows from the source: a function
(or the constructor of a class) that raises has a section `Raises:`, and every tensor in its signature has a shape.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import inspect
import logging
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "dynamo", "dynamo.population", "dynamo.meta", "dynamo.analysis", "dynamo.figures", "datamodules", "callbacks",
)  # fmt: skip
SHAPE = re.compile(r"\[[^\[\]\n]+\]")
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Examples):$", re.MULTILINE)
LONGEST = 16
"""Lines of an example."""


class Name(NamedTuple):
    """A public name.

    Attributes:
        package: which exports it.
        name: itself.
        node: where it is defined; an alias of a type is an assignment.
        doc: its docstring; that of an assignment is the text below it.
    """

    package: str
    name: str
    node: ast.ClassDef | ast.FunctionDef | ast.Assign
    doc: str


def defined(module: str, name: str) -> tuple[ast.ClassDef | ast.FunctionDef | ast.Assign, str]:
    """The definition of a name and its docstring, followed through the imports of a module."""
    path = ROOT / module.replace(".", "/")
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))
    for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return defined(node.module, alias.name)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node, inspect.cleandoc(ast.get_docstring(node) or "")
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            return node, inspect.cleandoc(str(text))
    raise AssertionError(f"{module} defines no {name}")


def public_names() -> Iterator[Name]:
    """Every public name once, under the first package that exports it."""
    seen: set[int] = set()
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            if id(getattr(module, name)) not in seen:
                seen.add(id(getattr(module, name)))
                yield Name(package, name, *defined(package, name))


NAMES = [pytest.param(found, id=f"{found.package}.{found.name}") for found in public_names()]


def sections(doc: str) -> dict[str, str]:
    """The sections of a docstring by name; what stands before the first is ""."""
    parts = SECTION.split(doc)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def entries(section: str) -> dict[str, str]:
    """What a section says of each name: `    name: ...`, continued on lines that are indented further."""
    found = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def raised(node: ast.FunctionDef) -> set[str]:
    """The errors that a function itself raises, and a caller may see."""
    inner = {id(part) for other in ast.walk(node) if other is not node and isinstance(other, ast.FunctionDef)
             for part in ast.walk(other)}  # fmt: skip
    calls = [part.exc for part in ast.walk(node) if isinstance(part, ast.Raise) and part.exc and id(part) not in inner]
    names = {ast.unparse(call.func if isinstance(call, ast.Call) else call) for call in calls}
    return {name for name in names if hasattr(builtins, name) or name.endswith("Error")}


def tensors(node: ast.ClassDef | ast.FunctionDef) -> tuple[set[str], bool]:
    """Which parameters (of a class: fields) are tensors, and whether a tensor is returned."""
    if isinstance(node, ast.ClassDef):
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
        own = {ast.unparse(part.target) for part in fields if "Tensor" in ast.unparse(part.annotation)}
        return {name for name in own if not name.startswith("_")}, False
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return {one.arg for one in arguments if one.annotation and "Tensor" in ast.unparse(one.annotation)}, (
        node.returns is not None and "Tensor" in ast.unparse(node.returns)
    )


def constructor(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """What runs when an object of the class is made."""
    own = ("__init__", "__post_init__")
    return [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name in own]


def complaints(found: Name) -> list[str]:
    """What is missing in a docstring."""
    parts, node = sections(found.doc), found.node
    lines = found.doc.splitlines() or [""]
    wrong = []
    if not re.search(r"[.?!]$", lines[0]) or any(lines[1:2]):
        wrong.append("its first sentence does not stand alone in the first line")
    if ">>>" not in parts.get("Examples", ""):
        wrong.append("no `Examples:` with >>>")
    elif len(parts["Examples"].strip().splitlines()) > LONGEST:
        wrong.append(f"an example of more than {LONGEST} lines")
    if isinstance(node, ast.Assign):
        return wrong
    makers = constructor(node) if isinstance(node, ast.ClassDef) else [node]
    for error in sorted(set().union(*map(raised, makers))):
        if f"{error}:" not in parts.get("Raises", ""):
            wrong.append(f"`Raises:` does not tell of {error}")
    inputs, output = tensors(node)
    inputs = inputs.union(*(tensors(maker)[0] for maker in makers))
    described = entries(parts.get("Args", "")) | entries(parts.get("Attributes", ""))
    if not re.search(r"Tensors `\[", lines[0]):  # the one shape of all of them
        wrong += [f"no shape of {name}" for name in sorted(inputs) if not SHAPE.search(described.get(name, parts[""]))]
    if output and not SHAPE.search(parts.get("Returns", parts[""])):
        wrong.append("no shape of what it returns")
    return wrong


@pytest.mark.parametrize("found", NAMES)
def test_a_public_name_says_what_it_is(found: Name) -> None:
    wrong = complaints(found)
    assert not wrong, f"{found.package}.{found.name}: {'; '.join(wrong)}"


@pytest.mark.parametrize("found", NAMES)
def test_its_example_runs(found: Name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, from its own imports, as somebody would paste it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DYNAMO_DATA", raising=False)
    for ours in ("dynamo", "callbacks", "datamodules"):  # they may speak on stdout, where a command has run before
        monkeypatch.setattr(logging.getLogger(ours), "handlers", [logging.NullHandler()])
    test = doctest.DocTestParser().get_doctest(found.doc, {}, f"{found.package}.{found.name}", None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    result = runner.run(test, out=said.append)
    assert not result.failed, "".join(said)


@pytest.mark.parametrize(
    ("doc", "complaint"),
    [
        ("Doubled\n`[N]`, of x `[N]`.\n\nExamples:\n    >>> 1", "its first sentence does not stand alone"),
        ("Doubled `[N]`, of x `[N]`.", "no `Examples:`"),
        ("Doubled `[N]`, of x `[N]`.\n\nExamples:\n    none", "no `Examples:`"),
        ("Doubled `[N]`.\n\nArgs:\n    x: a number.\n\nExamples:\n    >>> 1", "no shape of x"),
        ("Doubled.\n\nArgs:\n    x: `[N]`.\n\nExamples:\n    >>> 1", "no shape of what it returns"),
        ("Doubled `[N]`, of x `[N]`.\n\nExamples:\n    >>> 1", "`Raises:` does not tell of ValueError"),
    ],
)
def test_a_gap_is_found(doc: str, complaint: str) -> None:
    error = "raise ValueError('x')" if "Raises" in complaint else "pass"
    node = ast.parse(f"def f(x: Tensor) -> Tensor:\n    {error}\n    return x + x\n").body[0]
    assert isinstance(node, ast.FunctionDef)
    (wrong,) = complaints(Name("dynamo", "f", node, doc))
    assert wrong.startswith(complaint)
