"""What is wrong with an option, in one line instead of the parser's page."""

from __future__ import annotations

import re
from typing import NoReturn

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


class PlainParser(LightningArgumentParser):
    """A parser that names the culprit and the remedy, and does not print its usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and end with exit code 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        command = getattr(ex, "subcommand_parser", None) or self
        name = command.prog.replace(" [options]", "")
        self.exit(2, f"dynamo: error: {plain(message)}. All options: {name} --help\n")
