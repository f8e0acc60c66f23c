"""Which maps were made without some members of another, and where have these come to lie as newcomers?"""

from __future__ import annotations

import glob
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynamo.analyze.base import Content
from dynamo.plain_file import read_plain
from dynamo.runs import LARGEST_RESULT, RunFolder, read_config
from dynamo.types import UserError

EMBED = "embed"
"""Under which name a fold keeps where its newcomers lie."""
TRAINER = ("max_epochs", "max_steps", "limit_train_batches")
"""What of the trainer decides how long a map is trained."""


@dataclass(frozen=True)
class FoldRun:
    """What does one fold tell?

    Attributes:
        folder: its run.
        members: names of the map's own members, N of them.
        theta: their places `[N, D]`.
        newcomers: what `dynamo analyze embed` tells of each network that was left out, M of them.
        fidelity_of_members: how well the map's own members are emulated, on average.
    """

    folder: RunFolder
    members: list[str]
    theta: Tensor
    newcomers: list[Content]
    fidelity_of_members: Content

    @classmethod
    def read(cls, folder: RunFolder, population: str) -> FoldRun:
        """Read what `dynamo analyze embed` has written.

        Raises:
            UserError: it has not been run, or not on the weights as they are, or without those that were left out.
        """
        command = _command(folder, population)
        if not folder.done(EMBED):
            raise UserError(f"{folder.root}: nobody was embedded on this map yet; run `{command}`.")
        if folder.newer_weights(EMBED):
            raise UserError(f"{folder.root}: its weights are newer than {EMBED}.json; run `{command}` again.")
        found = folder.read_result(EMBED)
        rows = [row for row in found["newcomers"] if not row["on_map"]]
        if not rows:
            raise UserError(f"{folder.root}: no network that was left out was embedded on it; run `{command}`.")
        theta = torch.tensor([member["theta"] for member in found["members"]], dtype=torch.float64)
        names = [member["name"] for member in found["members"]]
        return cls(folder, names, theta, rows, found["fidelity_of_members"])

    @property
    def names(self) -> list[str]:
        """Who was left out."""
        return [row["name"] for row in self.newcomers]

    @property
    def places(self) -> Tensor:
        """Where they came to lie `[M, D]`."""
        return torch.tensor([row["theta"] for row in self.newcomers], dtype=torch.float64)


def folds_of(run: RunFolder, places: Sequence[str]) -> list[FoldRun]:
    """The folds of a map among some runs: those that were made as it was, of a part of its population.

    Args:
        run: of the map of all.
        places: folders of folds, or patterns of folders; those of maps that were made otherwise are passed over.

    Raises:
        UserError: none is made like it, telling what differs; or its newcomers are not there.
    """
    recipe = _recipe(run)
    found, differing = [], ""
    for folder in folders(places):
        other = _recipe(folder)
        differs = [key for key in {**recipe, **other} if recipe.get(key) != other.get(key)]
        if differs:
            key = differs[0]
            differing = differing or f"{folder.root} has {key} {other.get(key)}, not {recipe.get(key)}"
            continue
        found.append(FoldRun.read(folder, str(recipe["model.population"])))
    if not found:
        raise UserError(
            f"{run.root}: none of the folds was made like this map, of a part of its population: {differing}; train "
            "some by its configuration with --model.init_args.leave_out."
        )
    return found


def folders(places: Sequence[str]) -> list[RunFolder]:
    """The run folders that folders and patterns of folders stand for.

    Raises:
        UserError: nothing is there.
    """
    found: list[Path] = []
    for place in places:
        pattern = glob.has_magic(place) and not Path(place).is_dir()
        here = [Path(one) for one in sorted(glob.glob(place))] if pattern else [Path(place)]  # noqa: PTH207 - absolute
        if not here:
            raise UserError(f"no folder matches {place!r}; train the folds first, or correct the pattern.")
        found += here
    return [RunFolder(path) for path in dict.fromkeys(found)]


def embedded(places: Sequence[str]) -> dict[str, str | None]:
    """A hash of what every fold tells, None where it tells nothing yet: other newcomers are another question."""
    known: dict[str, str | None] = {}
    for folder in folders(places):
        file = folder.results / f"{EMBED}.json"
        there = folder.done(EMBED)
        known[str(folder.root)] = hashlib.sha256(read_plain(file, LARGEST_RESULT)).hexdigest() if there else None
    return known


def _recipe(folder: RunFolder) -> dict[str, Any]:
    """How was this map made? Its options by name, but for where it lies and who was left out."""
    if not folder.config.is_file():
        raise UserError(f"{folder.root} is no run: it has no {folder.config.name}; train it with `dynamo fit` first.")
    config = read_config(folder.config)
    known = dict(_leaves("seed", config.get("seed_everything")))
    for part in ("model", "data"):
        known |= dict(_leaves(part, config.get(part)))
    trainer = config.get("trainer") or {}
    known |= {f"trainer.{key}": trainer.get(key) for key in TRAINER if isinstance(trainer, dict)}
    return {key: value for key, value in known.items() if not key.startswith("model.leave_out")}


def _leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    """The options below a name, as a person writes them: `model.lr` for model.init_args.lr."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, part in value.items():
        yield from _leaves(name if key == "init_args" else f"{name}.{key}", part)


def _command(folder: RunFolder, population: str) -> str:
    """What puts those that were left out on this map."""
    model = read_config(folder.config).get("model") or {}
    names = (model.get("init_args") or {}).get("leave_out") or []
    chosen = ["--only", f"[{', '.join(names)}]"] if names else []
    words = ["analyze", EMBED, "--run", str(folder.root), "--population", population, *chosen]
    return f"dynamo {shlex.join(words)}"
