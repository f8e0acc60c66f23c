"""Does the documentation build without a warning, and does its site ask for nothing from elsewhere?"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "dynamo": "dynamo",
    "population": "dynamo.population",
    "meta": "dynamo.meta",
    "analysis": "dynamo.analysis",
    "figures": "dynamo.figures",
    "datamodules": "datamodules",
    "callbacks": "callbacks",
}
FETCHED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
}
"""What a browser fetches by itself; what a person clicks on (`a`) is another matter."""


class Page(HTMLParser):
    """What a page makes a browser fetch, the names of its places, and whether it still holds raw formulas."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.names: set[str] = set()
        self.formulas = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.formulas += tag == "math"
        self.names |= {str(found[key]) for key in ("id", "href") if key in found}
        if tag == "link" and found.get("rel") in ("canonical", "next", "prev"):
            return
        self.fetched += [str(found[key]) for key in (FETCHED.get(tag, ""), "srcset", "poster") if key in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python", "latex2mathml"):
        try:
            missing = find_spec(module) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            pytest.skip(f"the documentation is not built here: pip install -e '.[docs]' ({module})")
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(site)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return site


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    outside = re.compile(r"\s*(https?:)?//", re.IGNORECASE)
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 25
    found = [f"{path.name}: {link}" for path, page in pages.items() for link in page.fetched if outside.match(link)]
    for path in site.rglob("*.css"):
        links = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")]+)", path.read_text(encoding="utf-8"))
        found += [f"{path.name}: {link}" for link in links if outside.match(link)]
    assert found == []


def test_what_would_be_fetched_is_seen() -> None:
    page = Page('<script src="https://x/a.js"></script><link rel=stylesheet href="//x/b.css"><a href="https://x">x</a>')
    assert page.fetched == ["https://x/a.js", "//x/b.css"]


def test_formulas_are_mathml(site: Path) -> None:
    text = (site / "concepts.html").read_text(encoding="utf-8")
    assert Page(text).formulas > 30
    for path in site.rglob("*.html"):
        assert not re.search(r'class="arithmatex"|\\\(|\$\$', path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize(("page", "package"), PACKAGES.items())
def test_every_public_name_is_described(site: Path, page: str, package: str) -> None:
    shown = Page((site / "api" / f"{page}.html").read_text(encoding="utf-8")).names
    shown = {name.rpartition("#")[2] for name in shown}
    for name in importlib.import_module(package).__all__:
        assert any(place.endswith(f".{name}") for place in shown), name
