"""One bundle as a `.safetensors` file: written, and read back only if it is what the manifest promises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dynamo.population.base import Bundle
from dynamo.population.manifest import BundleEntry, PopulationError, file_hash, short
from dynamo.population.members import Member
from dynamo.population.recurrent import RecurrentBundle
from dynamo.population.residual import ResidualBundle

KINDS: dict[str, type[Bundle]] = {bundle.kind: bundle for bundle in (RecurrentBundle, ResidualBundle)}
"""The bundles that can be read from disk, by the name in their manifest."""

UNSOUND = (SafetensorError, RuntimeError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError, OSError)
"""What comes of settings that are none, and of weights that do not fit them."""


def check_storable(bundle: Bundle, members: Sequence[Member]) -> None:
    """Refuse a bundle that nothing could read back.

    Raises:
        PopulationError: its networks are their owner's code, which no file can hold without running it on loading.
    """
    if bundle.kind not in KINDS:
        raise PopulationError(
            f"{members[0].name!r} is a network of your own: its code cannot be stored in a population folder. Keep the "
            "population in memory (MetaTask takes it as it is), and make it anew with Population.from_modules."
        )


def write_bundle(path: Path, bundle: Bundle, members: Sequence[Member]) -> BundleEntry:
    """Write the weights, and say what the manifest has to know of them."""
    save_file({k: v.detach().cpu().contiguous() for k, v in bundle.state_dict().items()}, path)
    return BundleEntry(path.name, bundle.kind, members[0].task, bundle.settings, tuple(members), file_hash(path))


def read_bundle(folder: Path, entry: BundleEntry) -> Bundle:
    """Build a bundle without memory, then give it the file's tensors if they are what the manifest promises.

    Raises:
        PopulationError: the file is missing, damaged, or does not fit; the message names it.
    """
    path = folder / entry.file
    if entry.kind not in KINDS:
        raise PopulationError(f"{folder}: bundles of kind {short(entry.kind)} are unknown to this release.")
    try:
        found = file_hash(path)
    except FileNotFoundError:
        raise PopulationError(f"{path} is missing; copy the whole folder again.") from None
    except OSError as error:
        raise PopulationError(f"{path} cannot be read ({error}); copy the whole folder again.") from error
    if found != entry.sha256:
        raise PopulationError(f"{path} is damaged: it is not the file the manifest describes. Copy the folder again.")
    try:
        tensors = load_file(path)
        if {tensor.dtype for tensor in tensors.values()} != {torch.float32}:
            raise TypeError("weights have to be of type float32")
        with torch.device("meta"):
            bundle = KINDS[entry.kind].build(len(entry.members), entry.settings)
        bundle.load_state_dict(tensors, assign=True)
    except UNSOUND as error:
        raise PopulationError(f"{path} does not hold what its manifest says: {str(error)[:2000]}") from error
    for name, tensor in tensors.items():
        sound = tensor.isfinite().flatten(1).all(1)
        if not sound.all():
            culprit = entry.members[int((~sound).nonzero()[0])].name
            raise PopulationError(f"{path}: member {culprit!r} has weights ({name}) that are not finite numbers.")
    return bundle
