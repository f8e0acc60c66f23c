"""Are the notebooks as they should lie in git, and their pages in the docs those of the same notebooks?

That they run is seen by `make test-notebooks`, which takes minutes.
"""

from __future__ import annotations

import ast
import base64
import importlib
import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EVERY = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
ABSOLUTE = re.compile(r"(?<![\w.~}*-])/(?:root|tmp|mnt|home/\w|Users/\w|w[o]rk)\b|\b[A-Z]:\\")
OURS = {"dynamo", "datamodules", "callbacks"}
MOST_BYTES = 300_000
"""Of the pictures of one notebook."""


def cells(path: Path) -> list[Any]:
    return list(nbformat.read(path, as_version=4).cells)


def code(path: Path) -> ast.Module:
    """All code of a notebook."""
    return code_of(cells(path))


def code_of(chosen: list[Any]) -> ast.Module:
    """The code of some cells, without IPython's own lines."""
    lines = "\n".join(cell.source for cell in chosen if cell.cell_type == "code").splitlines()
    return ast.parse("\n".join(line for line in lines if not line.startswith("%")))


def test_there_are_notebooks() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, len(NOTEBOOKS) + 1)]
    assert len(NOTEBOOKS) >= 5


@EVERY
def test_it_is_stored_without_what_came_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    nbformat.validate(notebook)  # of a repeated cell id it warns, which is an error here
    assert (notebook["nbformat"], notebook["nbformat_minor"]) >= (4, 5)
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-z0-9-]+", cell["id"]), cell["id"]
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), cell["id"]
    assert not ABSOLUTE.search(text)
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def shown_code(path: Path, somebody_elses: bool) -> ast.Module:
    """The cells of what stands for somebody else's code, called `yours-...`, or all others."""
    chosen = [cell for cell in cells(path) if cell.id.startswith("yours-") == somebody_elses]
    return code_of(chosen)


@EVERY
def test_it_defines_nothing_but_what_stands_for_code_of_others(path: Path) -> None:
    for node in ast.walk(shown_code(path, somebody_elses=False)):
        assert not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef), node.name  # type: ignore[attr-defined]
        assert not isinstance(node, ast.Lambda) or node.lineno == node.end_lineno


@EVERY
def test_code_of_others_knows_nothing_of_ours(path: Path) -> None:
    ours = set()
    for node in ast.walk(code(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            ours |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            ours |= {alias.asname or alias.name for alias in node.names if alias.name.split(".")[0] in OURS}
    assert ours
    elsewhere = shown_code(path, somebody_elses=True)
    assert not ours & {node.id for node in ast.walk(elsewhere) if isinstance(node, ast.Name)}
    assert not [node for node in ast.walk(elsewhere) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_own_networks_become_a_map_in_the_lines_that_are_promised() -> None:
    (path,) = (path for path in NOTEBOOKS if path.stem == "05_your_own_networks")
    (mine,) = (cell.source for cell in cells(path) if cell.id == "your-part")
    promised = [int(count) for cell in cells(path) for count in re.findall(r"in\s(\d+) lines", cell.source)]
    assert promised == [len(mine.splitlines())]
    assert promised[0] <= 15


@EVERY
def test_all_that_it_imports_is_there_and_used(path: Path) -> None:
    tree = code(path)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
                assert (alias.asname or alias.name) in used, alias.name


@EVERY
def test_it_begins_with_a_title_and_ends_with_a_next_step(path: Path) -> None:
    first, *_, last = cells(path)
    assert first.cell_type == last.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert last.source.startswith("## Next step\n")
    text = "\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (path.parent / link).is_file() or link.startswith("https://"), link


@EVERY
def test_its_page_is_of_the_same_cells(path: Path) -> None:
    page = (PAGES / f"{path.stem}.md").read_text(encoding="utf-8")
    place = 0
    for cell in cells(path):
        own = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", cell.source)
        part = own if cell.cell_type == "markdown" else f"```python\n{own}\n```"
        found = page.find(part, place)
        assert found >= 0, f"{cell.id} is not in the page, or not here: make notebooks"
        place = found + len(part)
    assert not ABSOLUTE.search(page)


@EVERY
def test_its_pictures_are_small_and_all_shown(path: Path) -> None:
    page = (PAGES / f"{path.stem}.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[.+\]\((.+\.png)\)", page)
    files = sorted((PAGES / f"{path.stem}_files").iterdir())
    assert sorted(shown) == [file.relative_to(PAGES).as_posix() for file in files]
    assert len(shown) >= 2
    assert all(file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for file in files)
    assert sum(file.stat().st_size for file in files) < MOST_BYTES


def test_no_page_outlives_its_notebook() -> None:
    known = {"index", *(path.stem for path in NOTEBOOKS)}
    assert {file.name.removesuffix(".md").removesuffix("_files") for file in PAGES.iterdir()} <= known


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """notebooks/run.py, where what it needs is installed (the `notebooks` extra)."""
    pytest.importorskip("nbclient")
    spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "notebooks" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebook_of(*sources: str) -> Any:  # noqa: ANN401 - a NotebookNode
    made = [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    return nbformat.v4.new_notebook(cells=made)


def test_a_page_has_words_and_pictures_in_order(runner: ModuleType, tmp_path: Path) -> None:
    notebook = notebook_of("print(1)", "figure")
    drawn, kept = np.zeros((3, 2, 4), np.uint8), io.BytesIO()
    drawn[1, 0], drawn[..., 3] = (250, 20, 90, 0), 255
    Image.fromarray(drawn).save(kept, "PNG")
    data = {"image/png": base64.b64encode(kept.getvalue()).decode(), "text/plain": "<Figure>"}
    picture = nbformat.v4.new_output("display_data", data)
    # What is printed comes in pieces, cut wherever the kernel was interrupted.
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("1\n2", "3\n")]
    notebook.cells[1].outputs = [picture]
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell("## The map\nSee [02](02_read_a_map.ipynb)."))
    stale = tmp_path / "01_x_files" / "gone.png"
    stale.parent.mkdir()
    stale.write_bytes(b"")
    page = runner.render(notebook, "01_x", tmp_path)
    assert page.read_text(encoding="utf-8").split("\n\n")[:-1] == [
        "```python\nprint(1)\n```",
        "```text\n1\n23\n```",
        "## The map\nSee [02](02_read_a_map.md).",
        "```python\nfigure\n```",
        "![The map](01_x_files/cell-1.png)",
    ]
    (file,) = stale.parent.iterdir()
    assert file.name == "cell-1.png"
    assert np.array_equal(Image.open(file).convert("RGB"), drawn[..., :3])


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        (["print('fine')", "1 / 0", "print('never')"], [], "ZeroDivisionError: division by zero"),
        (["import warnings", "warnings.warn('odd')"], [], "UserWarning: odd"),
        (["import time", "time.sleep(60)"], ["--limit", "2"], "took more than 2 s"),
    ],
)
def test_what_goes_wrong_is_said(
    runner: ModuleType, tmp_path: Path, sources: list[str], options: list[str], said: str
) -> None:
    pytest.importorskip("ipykernel")
    path = tmp_path / "broken.ipynb"
    nbformat.write(notebook_of(*sources), path)
    command = [sys.executable, str(ROOT / "notebooks" / "run.py"), str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert "broken.ipynb" in done.stdout
    assert "\x1b" not in done.stderr
