"""What `mkdocs build` does besides: formulas become MathML, and rendered notebooks join the navigation."""

from __future__ import annotations

import html
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The notebooks that were rendered (docs/notebooks/*.md), in their order; they may be none."""
    folder = Path(config.docs_dir)
    rendered = sorted(page.relative_to(folder).as_posix() for page in folder.glob("notebooks/*.md"))
    if rendered and config.nav is not None:
        config.nav.insert(-1, {"Notebooks": rendered})
    return config


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas that the reader's browser shows without any script, and so without a network."""
    return FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    return convert(html.unescape(found[2]).strip(), display=display)
