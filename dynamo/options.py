"""Options as a person means them: later lists replace earlier ones, and what is wrong is said in one line."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

NOISE = re.compile(
    r"Does not validate against any of the Union subtypes|Subtypes: .*|Errors:|- Expected a <class '[^']*NoneType'>"
    r"|Given value type: .*|Given value: (?:[{[]|NestedArg|Namespace).*"
)
"""Lines that tell which types the parser tried, not what the person got wrong."""


def plain(message: str) -> str:
    """The same complaint without the parser's account of all the types it tried."""
    lines = [line.strip() for line in message.splitlines()]
    kept = [line.removeprefix("- ") for line in lines if line and not NOISE.fullmatch(line)]
    return " ".join(kept) or message


def first_cause(message: str) -> str:
    """What went wrong where an option was built, of all that the parser tried with it; else the same."""
    causes = [cause for cause in re.findall(r"^ *- (.*)", message, re.MULTILINE) if not NOISE.fullmatch(cause)]
    return next((cause for cause in causes if not cause.startswith("Expected a")), message)


class PlainParser(LightningArgumentParser):
    """A parser that names the culprit and the remedy, and does not print its usage; in it, a list replaces a list."""

    def _check_value_key(
        self,
        action: argparse.Action,
        value: Any,  # noqa: ANN401
        key: str,
        cfg: Namespace | None,
        append: bool = False,
    ) -> Any:  # noqa: ANN401 - jsonargparse's signature
        """A list takes nothing over from the one that it replaces.

        jsonargparse fills the gaps of its items from the earlier list's, item by item, where both happen to be of one
        length: three groups of an overlay would keep the widths of the three groups below it, and four would not.
        """
        if isinstance(value, list) and not append and cfg is not None and key in cfg:
            cfg = cfg.clone()
            del cfg[key]
        return super()._check_value_key(action, value, key, cfg, append=append)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and end with exit code 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        command = getattr(ex, "subcommand_parser", None) or self
        name = command.prog.replace(" [options]", "")
        self.exit(2, f"dynamo: error: {plain(message)}. All options: {name} --help\n")
