"""What `mkdocs build` does besides: formulas, the public names of a package, rendered notebooks in the navigation."""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

PUBLIC = re.compile(r"^\{\{ (public|links) ([\w.]+) \}\}$", re.MULTILINE)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
PICTURE = re.compile(r'(<img [^>]*?src="([^"]+)"[^>]*>)')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The notebooks that were rendered (docs/notebooks/*.md), in their order, the index first; they may be none."""
    folder = Path(config.docs_dir)
    pages = sorted(folder.glob("notebooks/*.md"), key=lambda page: (page.stem != "index", page.name))
    rendered = [page.relative_to(folder).as_posix() for page in pages]
    if rendered and config.nav is not None:
        config.nav.insert(-1, {"Notebooks": rendered})
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the public names of a package, file by file, in the order of its imports.

    `{{ public dynamo.analysis }}` describes them; `{{ links dynamo }}` leads to where they are described.
    """
    return PUBLIC.sub(lambda found: _public(*found.groups(), Path(config.config_file_path).parent), markdown)


def _public(how: str, package: str, root: Path) -> str:
    tree = ast.parse((root / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    if how == "links":
        return "\n".join(f"- [{name.name}][{node.module}.{name.name}]" for node in imports for name in node.names)
    entries = [(node.module, ", ".join(alias.name for alias in node.names)) for node in imports]
    return "\n".join(f"::: {module}\n    options:\n      members: [{names}]\n" for module, names in entries)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas that the browser shows without a script, and so without a network; pictures that a click enlarges."""
    return PICTURE.sub(r'<a href="\2">\1</a>', FORMULA.sub(_mathml, content))


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    return convert(html.unescape(found[2]).strip(), display=display)
