"""The command line `dynamo report RUN`: what a run has to tell, as one HTML page."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dynamo.files import write_text
from dynamo.plain_file import open_plain
from dynamo.report.content import gather
from dynamo.report.page import GENERATOR, render
from dynamo.report.source import find
from dynamo.types import UserError

log = logging.getLogger(__name__)

NAME: Final = "report.html"
HEAD: Final = 4096
"""Bytes at the start of a file that tell whether it is a report."""


def main(args: Sequence[str]) -> None:
    """Run the command line `dynamo report`.

    Raises:
        UserError: the run cannot be reported on, or the page would take the place of something else.
    """
    parser = argparse.ArgumentParser(
        "dynamo report", description=f"{__doc__} It needs no network and no other file.", allow_abbrev=False
    )
    parser.add_argument("run", help="a run of a map or of a population, or the folder of a figure with its seeds")
    parser.add_argument("--out", help=f"the file; default: RUN/{NAME}, which is written anew each time")
    options = parser.parse_args(list(args))
    folder = Path(options.run)
    out = Path(options.out) if options.out else folder / NAME
    source = find(folder)
    check_place(out)
    page = render(gather(source))
    write_text(out, page)
    log.info(
        f"report: {out} ({len(page.encode()) / 1000:,.0f} kB, complete in itself: it can be sent as it is)\n"
        f"open it in a browser: {out.resolve().as_uri()}"
    )


def check_place(out: Path) -> None:
    """Refuse to write over what is no report.

    Raises:
        UserError: so it would.
    """
    remedy = "Choose another file with --out."
    try:
        with open_plain(out) as file:
            if f'name="generator" content="{GENERATOR}"'.encode() not in file.read(HEAD):
                raise UserError(f"{out} is there and is no report of ours; it is not written over. {remedy}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error}). {remedy}") from error
