"""Is this the checkpoint of this run? What a task notes in its checkpoints, and how another's is refused."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from dynamo.population.artifact import Population
from dynamo.types import UserError

KEY: Final = "dynamo"
"""Where it stands in a checkpoint."""
FORMAT: Final = 1
"""Version of what stands there; a reader refuses what it does not know."""
NAMED: Final = 3
"""So many differences are named."""

Identity = Mapping[str, Any]
"""What a run is about, by the name a person knows it under: numbers, texts, lists of texts."""


class CheckpointMismatchError(UserError):
    """The checkpoint is one of another run."""


class IdentifiedTask(LightningModule, ABC):
    """A task whose checkpoints say what they are about, and which refuses another's."""

    trained_steps: int = 0
    """Steps behind the checkpoint that was loaded."""

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """What makes two runs the same."""

    @abstractmethod
    def check_weights(self) -> None:
        """Refuse to keep weights that are no finite numbers, by a DivergenceError that says whose they are."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note it."""
        checkpoint[KEY] = {"format": FORMAT, **self.identity}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another run, before anything of it is taken over."""
        check(checkpoint, self.identity, self.state_dict())
        steps = checkpoint.get("global_step")
        self.trained_steps = steps if isinstance(steps, int) else 0


def fingerprint(module: LightningModule) -> dict[str, str]:
    """Hashes of the vocabulary and of the data that a module reads; nothing where no trainer has given it any."""
    try:
        data = module.trainer.datamodule  # type: ignore[attr-defined]
    except RuntimeError:  # what Lightning says of a module that no trainer runs
        return {}
    return dict(getattr(data, "fingerprint", {}))


def digest(population: Population) -> str:
    """The sha256 of the members' weights: whether two populations are the same, whatever their folders are called."""
    found = hashlib.sha256()
    for bundle in population.bundles:
        for name, tensor in sorted(bundle.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def check(checkpoint: Mapping[str, Any], identity: Identity, weights: Mapping[str, Tensor]) -> None:
    """Is this the checkpoint of this run?

    Args:
        checkpoint: as it was read.
        identity: of this run.
        weights: the state dict of this run, for the shapes.

    Raises:
        CheckpointMismatchError: naming what differs.
    """
    found = checkpoint.get(KEY)
    if not isinstance(found, Mapping) or found.get("format") != FORMAT:
        version = found.get("format") if isinstance(found, Mapping) else None
        raise CheckpointMismatchError(
            f"The checkpoint is none of this release's (its format is {version!r}, {FORMAT} is known): take one that "
            "`dynamo fit` has written, or the release that wrote it."
        )
    differences = [
        text for name, mine in identity.items() if (text := _difference(name, found.get(name), mine)) is not None
    ]
    differences = differences or list(_shapes(checkpoint.get("state_dict"), weights))
    if differences:
        more = f", and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
        raise CheckpointMismatchError(
            f"The checkpoint is one of another run: {'; '.join(differences[:NAMED])}{more}. Give the configuration "
            "that it was made with, or begin a new run with another --run."
        )


def _difference(name: str, theirs: object, mine: object) -> str | None:
    """How the checkpoint differs in one thing; None where it does not."""
    if isinstance(mine, Sequence) and not isinstance(mine, str) and isinstance(theirs, list):
        if len(theirs) != len(mine):
            return f"{name} are {len(theirs)} there and {len(mine)} here"
        pairs = enumerate(zip(theirs, mine, strict=True))
        return next((f"{name}: number {i} is {a!r} there and {b!r} here" for i, (a, b) in pairs if a != b), None)
    return None if theirs == mine else f"{name} is {_short(theirs)} there and {_short(mine)} here"


def _short(value: object) -> str:
    """A value for a message; of a hash the beginning."""
    return f"{value[:8]}..." if isinstance(value, str) and len(value) == 64 else repr(value)


def _shapes(theirs: object, mine: Mapping[str, Tensor]) -> list[str]:
    """Weights that are in one of them only, or of another shape."""
    if not isinstance(theirs, Mapping):
        return ["it has no weights"]
    shapes = [
        {name: list(tensor.shape) for name, tensor in weights.items() if isinstance(tensor, Tensor)}
        for weights in (theirs, mine)
    ]
    names = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
    return [f"{name} is {shapes[0].get(name)} there and {shapes[1].get(name)} here" for name in names]
