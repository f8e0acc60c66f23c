"""Does the code keep the house's form: imports that point one way, short files, no forbidden shortcuts?

types <- population <- meta <- analysis <- figures        datamodules -> dynamo.types, the readers
callbacks -> dynamo                                       only the command line sees everything
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dynamo", "datamodules", "callbacks")
FLOW = ("types", "population", "meta", "analysis", "figures")
# Modules directly in dynamo/: how anything is read that may be hostile and written that may be cut short (one copy, for
# all who do so), and what lies in a run folder; neither knows a network.
READERS = ("files", "plain_file", "expansion", "pickle_machine", "stored_zip")
FILES = ("runs", "checkpointing", "checkpoint_file", "event_files", "resume")
# What each layer may import besides itself. "dynamo" is dynamo/__init__.py; every other module or package
# directly in dynamo/ (cli, analyze, report, reproduce, ...) is the command line: it sees all, none sees it.
SEES: dict[str, set[str]] = {
    "readers": {"types"},
    **{layer: {"readers", *FLOW[:place]} if place else set() for place, layer in enumerate(FLOW)},
    "dynamo": set(FLOW),
    "datamodules": {"types", "readers"},
    "files": {"types", "readers"},
    "callbacks": {*FLOW, "readers", "files", "dynamo"},
    "command line": {*FLOW, "readers", "files", "dynamo", "datamodules", "callbacks"},
}
ANALYSIS_SHUNS = ("pytorch_lightning", "lightning_fabric", "matplotlib")  # no Trainer, no pyplot
FILE_LINES, FUNCTION_LINES, README_LINES = 300, 60, 250
# Folders of somebody's machine; in brackets so that this file does not contain what it looks for.
PRIVATE_PATH = re.compile(r"(?<![\w.~}*-])/(r[o]ot|w[o]rk|h[o]me/[\w.-]+|U[s]ers/[\w.-]+)/")


def layer_of(name: str, root: Path) -> str | None:
    """The layer a dotted name belongs to; None for a name that is not ours."""
    first, *rest = name.split(".")
    if first != "dynamo":
        return first if first in PACKAGES else None
    if not rest:
        return "dynamo"
    if rest[0] in FLOW:
        return rest[0]
    for layer, modules in (("readers", READERS), ("files", FILES)):
        if rest[0] in modules:
            return layer
    is_module = (root / "dynamo" / f"{rest[0]}.py").exists() or (root / "dynamo" / rest[0]).is_dir()
    return "command line" if is_module else "dynamo"


def imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a module imports, wherever in the file it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def import_faults(tree: ast.Module, file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Imports that point the wrong way."""
    parts = file.relative_to(root).with_suffix("").parts
    own = layer_of(".".join(parts[:-1] if parts[-1] == "__init__" else parts), root)
    assert own is not None
    for line, name in imports(tree, package=".".join(parts[:-1])):
        other = layer_of(name, root)
        if other not in (None, own, *SEES[own]):
            yield line, f"{own} imports {name}, which belongs to {other}"
        if own == "analysis" and name.split(".")[0] in ANALYSIS_SHUNS:
            yield line, f"analysis is pure functions of tensors, and imports {name}"


def shortcut_faults(tree: ast.Module, is_command_line: bool) -> Iterator[tuple[int, str]]:
    """Constructs that the house does without, and functions that outgrew a screen."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                yield node.lineno, "star import"
            case ast.Call(func=ast.Name(id="print")) if not is_command_line:
                yield node.lineno, "print in library code"
            case ast.Subscript(value=ast.Attribute(attr="hparams") | ast.Name(id="hparams")):
                yield node.lineno, "hparams by name: give the class a typed attribute"
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                example = (ast.get_docstring(node) or "").partition("\n\nExamples:\n")[1:]
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - "".join(example).count("\n")
                if lines > FUNCTION_LINES:
                    yield node.lineno, f"{node.name} has {lines} lines, more than {FUNCTION_LINES}"


def faults(root: Path) -> list[str]:
    """Everything in the three packages under `root` that breaks a rule, as `file:line: what`."""
    found = []
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        here: list[tuple[int, str]] = []
        if file.name == "utils.py":
            here.append((1, "utils.py: name a file by what it does"))
        if (lines := len(text.splitlines())) > FILE_LINES:
            here.append((FILE_LINES, f"the file has {lines} lines, more than {FILE_LINES}"))
        here += import_faults(tree, file, root)
        is_command_line = file.parent == root / "dynamo" and file.stem not in ("__init__", "types", *READERS, *FILES)
        here += shortcut_faults(tree, is_command_line)
        found += [f"{file.relative_to(root)}:{line}: {what}" for line, what in sorted(here)]
    return found


def test_the_house_rules_hold() -> None:
    assert faults(ROOT) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("dynamo/types.py", "import dynamo.population.task", "belongs to population"),
        ("dynamo/population/task.py", "from dynamo.meta import task", "belongs to meta"),
        ("dynamo/population/task.py", "from ..meta.task import MetaTask", "belongs to meta"),
        ("dynamo/population/__init__.py", "from ..analysis import pca", "belongs to analysis"),
        ("dynamo/meta/task.py", "def f():\n    from dynamo import analysis", "belongs to analysis"),
        ("dynamo/meta/task.py", "from dynamo import Population", "belongs to dynamo"),
        ("dynamo/analysis/pca.py", "import dynamo.figures.plane as plane", "belongs to figures"),
        ("dynamo/analysis/pca.py", "from pytorch_lightning import Trainer", "pure functions"),
        ("dynamo/analysis/pca.py", "import matplotlib.pyplot as plt", "pure functions"),
        ("dynamo/figures/plane.py", "from dynamo.cli import main", "belongs to command line"),
        ("dynamo/figures/plane.py", "import callbacks", "belongs to callbacks"),
        ("dynamo/__init__.py", "from dynamo.cli import main", "belongs to command line"),
        ("dynamo/meta/task.py", "from dynamo.runs import RunFolder", "belongs to files"),
        ("dynamo/runs.py", "from dynamo.population import task", "belongs to population"),
        (
            "dynamo/checkpoint_file.py",
            "import dynamo.runs, dynamo.cli",
            "belongs to command line",
        ),
        ("dynamo/plain_file.py", "from dynamo.population import task", "belongs to population"),
        ("dynamo/pickle_machine.py", "print(1)", "print in library code"),
        ("datamodules/imdb.py", "from dynamo.population import task", "belongs to population"),
        ("datamodules/imdb.py", "from dynamo.runs import RunFolder", "belongs to files"),
        ("datamodules/imdb.py", "from callbacks import base", "belongs to callbacks"),
        ("callbacks/base.py", "from dynamo.cli import main", "belongs to command line"),
        ("callbacks/base.py", "from dynamo.analyze import base", "belongs to command line"),
        ("callbacks/base.py", "from dynamo.report import page", "belongs to command line"),
        ("callbacks/base.py", "import datamodules.imdb", "belongs to datamodules"),
        ("callbacks/utils.py", "", "utils.py"),
        ("callbacks/base.py", "from os.path import *", "star import"),
        ("callbacks/base.py", "print(1)", "print in library code"),
        ("callbacks/base.py", "def f(self):\n    return self.hparams['lr']", "hparams by name"),
        ("callbacks/base.py", "\n" * 301, "more than 300"),
        ("callbacks/base.py", "def f():\n" + "    pass\n" * 60, "f has 61 lines"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    command_line = ("dynamo/cli.py", "dynamo/analyze/base.py", "dynamo/report/page.py")
    write(tmp_path, {**dict.fromkeys(command_line, ""), file: source})
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"{file}:")
    assert complaint in fault


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    sources = {
        "dynamo/__init__.py": "from dynamo.population import task",
        "dynamo/cli.py": "import callbacks, datamodules, dynamo\nfrom dynamo import reproduce\nprint(1)",
        "dynamo/reproduce.py": "from dynamo.figures import plane",
        "dynamo/analyze/base.py": "from dynamo.figures import plane\nfrom dynamo.runs import RunFolder",
        "dynamo/analysis/pca.py": "import torch\nfrom . import mds\nfrom ..meta import task\nfrom dynamo import types",
        "datamodules/imdb.py": "from datamodules.text import Text\nfrom dynamo import plain_file, types",
        "dynamo/population/manifest.py": "from dynamo.plain_file import read_plain",
        "dynamo/checkpoint_file.py": "from dynamo.pickle_machine import follow\nfrom dynamo.types import UserError",
        "callbacks/base.py": "import pytorch_lightning\nfrom dynamo import Population, figures, runs",
    }
    write(tmp_path, sources)
    assert faults(tmp_path) == []


def write(root: Path, sources: dict[str, str]) -> None:
    for name, source in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")


def test_every_test_file_has_its_source() -> None:
    """tests/population/test_task.py tests dynamo/population/task.py; test_task_fuzz.py would try it on broken files."""
    orphans = []
    for test in (ROOT / "tests").glob("*/**/test_*.py"):
        source = test.relative_to(ROOT / "tests").with_name(re.sub(r"^test_|_fuzz(?=\.py$)", "", test.name))
        if not any((base / source).exists() for base in (ROOT, ROOT / "dynamo")):
            orphans.append(str(test.relative_to(ROOT)))
    assert orphans == []


def test_every_module_can_be_imported_first() -> None:
    """One process that forgets the project before each import: a cycle shows from whichever end one enters.

    A package comes before its modules, however one enters: those that it loads by itself are not tried again.
    """
    files = [file.relative_to(ROOT) for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    modules = {".".join(f.with_suffix("").parts).removesuffix(".__init__"): f.name == "__init__.py" for f in files}
    packages_first = sorted((m for m in modules if not m.endswith("__main__")), key=lambda m: (not modules[m], m))
    script = (
        "import importlib, sys\n"
        "loaded = set()\n"
        f"for module in {packages_first}:\n"
        "    if module in loaded:\n"
        "        continue\n"
        f"    for name in [n for n in sys.modules if n.split('.')[0] in {PACKAGES}]:\n"
        "        del sys.modules[name]\n"
        "    try:\n"
        "        importlib.import_module(module)\n"
        "    except Exception as error:\n"
        "        print(f'{module}: {error!r}')\n"
        "    loaded.update(name for name in sys.modules if name.startswith(f'{module}.'))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (run.stdout, run.returncode) == ("", 0), run.stderr


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_no_file_names_a_private_folder() -> None:
    """No path of the machine that something was written on, in any file that git tracks or would."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"git cannot list the files here: {run.stderr.strip()}")
    found = []
    for name in filter(None, run.stdout.split("\0")):
        try:
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError):  # a picture; a file deleted but not yet committed
            continue
        found += [f"{name}:{number}" for number, line in enumerate(lines, 1) if PRIVATE_PATH.search(line)]
    assert found == []


@pytest.mark.parametrize("text", ["cd /ro" + "ot/x", "'/wo" + "rk/main'", "see /ho" + "me/alice/runs/"])
def test_a_private_folder_is_recognised(text: str) -> None:
    assert PRIVATE_PATH.search(text)
