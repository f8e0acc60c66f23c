"""Processes that start at once: imports everything once, and forks for every command that it is asked to run.

Reads one JSON object a line: `{"run": [words after dynamo], "out": file, ...}` starts a process in a group of its own
and answers with its id, `{"wait": id}` answers with its exit code (negative: the signal that ended it). A process can
be told to come to harm at a place that a random moment hardly hits:

    "at": "package.module:Class.function", "call": 3   when this is called for the third time,
    "signal": 9                                        it gets a signal,
    "raise": "text" or 28                              an error is raised, an OSError where it is a number,
    "env": {...}, "cwd": folder                        its environment and its working directory

The same object as the only argument runs the command in this very process, in its first life under torchrun.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def harm(at: str, call: int, number: int | None, error: str | int | None) -> None:
    """Replace a function by one that does harm before its `call`-th call."""
    module, _, path = at.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    whole, calls = getattr(owner, name), 0

    def harmed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        nonlocal calls
        calls += 1
        if calls == call:
            if number is not None:
                os.kill(os.getpid(), number)
            if isinstance(error, int):
                raise OSError(error, os.strerror(error))
            if error is not None:
                raise ValueError(error)
        return whole(*args, **kwargs)

    setattr(owner, name, harmed)


def command(asked: dict[str, Any]) -> int:
    """Run a command as `python -m dynamo WORDS` would; its exit code."""
    try:
        from dynamo.cli import main

        if "at" in asked:
            harm(asked["at"], asked.get("call", 1), asked.get("signal"), asked.get("raise"))
        sys.argv = ["dynamo", *asked["run"]]
        main()
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:  # noqa: BLE001 - as Python ends a process
        traceback.print_exc()
        return 1
    return 0


def child(asked: dict[str, Any]) -> None:
    """What a freshly started process does."""
    os.setpgid(0, 0)
    with Path(asked["out"]).open("ab", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(asked.get("cwd", "."))
    env = asked.get("env", {})
    os.environ.update(env)
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only.rank = int(env.get("RANK", env.get("LOCAL_RANK", "0")))  # found on import, which lies behind us
    code = command(asked)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Answer until standard input is closed."""
    import dynamo.cli

    assert dynamo.cli
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                child(asked)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    else:
        asked = json.loads(sys.argv[1])
        if os.environ.get("TORCHELASTIC_RESTART_COUNT") != "0" or os.environ.get("RANK") != asked.get("rank"):
            asked.pop("at", None)
        sys.exit(command(asked))
