"""What somebody has typed behind `dynamo`, before a parser sees it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

HELP = """usage: dynamo COMMAND ...

Turns a population of trained networks into a map (DYNAMO, arXiv 2302.14078).

  dynamo reproduce demo                       the whole road on built-in data, in three minutes
  dynamo reproduce fig3_sizes                 every stage of a figure of the paper, skipping what is done
  dynamo fit -c CONFIG                        train a population, or the meta-model on one
  dynamo fit -c CONFIG --ckpt_path last       go on where it stopped
  dynamo test -c CONFIG --ckpt_path last      fidelity and accuracy of a finished run, on the test split
  dynamo analyze KIND --run RUN               one analysis of a finished run (`dynamo analyze`: the kinds)
  dynamo report RUN                           all of a run as one HTML page, with a map to explore
  dynamo validate | predict                   as in every LightningCLI

`dynamo COMMAND --help` tells the options of a command. Configurations stand in configs/, see its README.
TensorBoard: tensorboard --logdir runs
"""


def configurations(words: Sequence[str]) -> list[Path]:
    """The files that a command line names as configurations."""
    named = [after for before, after in pairwise(words) if before in ("-c", "--config")]
    named += [word.partition("=")[2] for word in words if word.startswith(("-c=", "--config="))]
    return [Path(name) for name in named if "\n" not in name and not name.lstrip().startswith("{")]  # else YAML itself


def misuse(words: Sequence[str], known: Sequence[str]) -> str:
    """What is wrong, and what there is: a command that there is not, or one that nothing is said about; else empty.

    Args:
        words: what was typed.
        known: the commands of LightningCLI.
    """
    if words[0] not in known and not words[0].startswith("-"):
        return (
            f"there is no command {words[0]!r}; choose one of {', '.join([*known, 'analyze', 'report', 'reproduce'])}"
        )
    if words[0] in known and not words[1:]:
        return (
            f"dynamo {words[0]} needs a configuration: dynamo {words[0]} -c configs/population/demo.yaml; "
            "configs/README.md tells of the others"
        )
    return ""
