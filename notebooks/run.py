"""Runs the notebooks from top to bottom, each in a fresh kernel and an empty folder, and renders them for the docs.

python notebooks/run.py                           all of them: `make test-notebooks`
python notebooks/run.py --render docs/notebooks   and what came out, as Markdown with pictures: `make notebooks`
python notebooks/run.py notebooks/01_first_map.ipynb
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parent
LIMIT = 240.0
"""Seconds that a notebook may take."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(Exception):
    """A notebook that does not run to its end, and why."""


def execute(path: Path, limit: float = LIMIT) -> NotebookNode:
    """What does a notebook show when it is run by itself?

    Its kernel imports this checkout, whichever is installed.

    Raises:
        NotebookError: a cell failed (with what it said), or the time was over.
    """
    notebook = nbformat.read(path, as_version=4)
    end = time.monotonic() + limit
    with tempfile.TemporaryDirectory() as place:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],  # it warns of what other users of this machine could listen to
            timeout_func=lambda cell: max(1, round(end - time.monotonic())),
            resources={"metadata": {"path": place}},
        )
        paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        except CellTimeoutError as error:
            raise NotebookError(f"{path.name} took more than {limit:.0f} s, which is what it may take.") from error
        except CellExecutionError as error:
            raise NotebookError(f"{path.name} failed.\n{COLOURS.sub('', str(error))}") from error
    return notebook


def render(notebook: NotebookNode, name: str, folder: Path) -> Path:
    """Write an executed notebook as `NAME.md` and its pictures as `NAME_files/CELL.png`; those of before go.

    nbconvert's Markdown has neither a fence around what was printed nor words for those who do not see a picture.
    """
    pictures = folder / f"{name}_files"
    shutil.rmtree(pictures, ignore_errors=True)
    parts, heading = [], name
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) or [heading])[-1]
            parts.append(re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", cell.source))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for number, (kind, content) in enumerate(shown(cell)):
            if kind == "text":
                parts.append(f"```text\n{content.rstrip()}\n```")
                continue
            file = pictures / f"{cell.id}{f'-{number}' if number else ''}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(small(base64.b64decode(content)))
            parts.append(f"![{heading}]({file.relative_to(folder).as_posix()})")
    parts.append(f"*Rendered from `notebooks/{name}.ipynb` by `make notebooks`.*")
    page = folder / f"{name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def small(png: bytes) -> bytes:
    """The same picture in 256 colours, which no eye tells from the original of a plot, and without remarks in it."""
    kept = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return kept.getvalue()


def shown(cell: NotebookNode) -> Iterator[tuple[str, str]]:
    """What a cell printed ("text") and drew ("picture"), in order; it comes in pieces, as the kernel found time.

    Raises:
        NotebookError: it wrote to standard error, where warnings appear: no reader should have to wonder about them.
    """
    pieces = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            raise NotebookError(f"the cell {cell.id!r} warned:\n{output.text}")
        data = output.get("data", {})
        picture = data.get("image/png")
        pieces.append(("picture", picture) if picture else ("text", output.get("text") or data["text/plain"]))
    for kind, same in groupby(pieces, key=lambda piece: piece[0]):
        contents = [content for _, content in same]
        yield from ((kind, content) for content in (contents if kind == "picture" else ["".join(contents)]))


def cpu_seconds() -> float:
    """How much the kernels that have ended worked: on a busy machine it tells more than the clock."""
    spent = os.times()
    return spent.children_user + spent.children_system


def main() -> int:
    """The command line: 0 if all went well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all")
    parser.add_argument("--render", type=Path, metavar="FOLDER", help="write what came out as Markdown into FOLDER")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for each (default: %(default).0f)")
    options = parser.parse_args()
    failed = 0
    for path in options.notebooks or sorted(FOLDER.glob("*.ipynb")):
        start, work = time.monotonic(), cpu_seconds()
        try:
            notebook = execute(path, options.limit)
            for cell in notebook.cells:
                list(shown(cell) if cell.cell_type == "code" else ())
            if options.render:
                render(notebook, path.stem, options.render)
        except NotebookError as error:
            print(f"{error}\n", file=sys.stderr)
            failed += 1
        print(f"{path.name}: {time.monotonic() - start:.0f} s, {cpu_seconds() - work:.0f} s of CPU", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
