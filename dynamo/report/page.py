"""From everything that stands in a report to the page: escaped, with its script and style inside, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from dynamo.report.content import Report

TEMPLATE: Final = Path(__file__).parent / "template"
SCRIPTS: Final = ("draw.js", "panel.js", "map.js", "tables.js")
GENERATOR: Final = "dynamo report"
"""What the page says that it was made by; only such a page is written over."""


def render(report: Report) -> str:
    """The page. Names, groups, options and numbers are escaped; a browser that is told to runs no script but ours."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["marked"] = marked
    style = (TEMPLATE / "report.css").read_text(encoding="utf-8")
    script = "".join((TEMPLATE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return environment.get_template("report.html").render(
        report=report,
        data=finite(report.map),
        generator=GENERATOR,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'",
    )


def marked(text: str) -> Markup:
    """What stands between backticks, as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def finite(value: Any) -> Any:  # noqa: ANN401 - plain values of any depth
    """The same with null for every number that JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _hash(text: str) -> str:
    """What a content security policy knows a script or style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
