"""Processes that start at once: imports everything once, and forks for every command that it is asked to run.

Reads one JSON object a line: `{"run": [words after dynamo], "out": file, "env": {...}}` starts a process in a group of
its own and answers with its id, `{"wait": id}` answers with the exit code (negative: the signal that ended it).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path


def child(words: list[str], out: str, env: dict[str, str]) -> None:
    """What a freshly started `python -m dynamo WORDS` does."""
    os.setpgid(0, 0)
    with Path(out).open("ab", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ.update(env)
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only.rank = int(env.get("RANK", env.get("LOCAL_RANK", "0")))  # found on import, which lies behind us
    code = 0
    try:
        from dynamo.cli import main

        sys.argv = ["dynamo", *words]
        main()
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:  # noqa: BLE001 - as Python ends a process
        traceback.print_exc()
        code = 1
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
                child(asked["run"], asked["out"], asked.get("env", {}))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
