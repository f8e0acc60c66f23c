"""Networks out of checkpoints: Lightning's, or state dicts, found by a pattern and built by their own class."""

from __future__ import annotations

import glob
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynamo.population.artifact import Population
from dynamo.population.hooks import observe as through_hooks
from dynamo.population.manifest import PopulationError


def from_checkpoints(
    checkpoints: str | list[str] | dict[str, str],
    module: type[nn.Module],
    init_args: dict[str, Any] | None = None,
    observe: list[str] | None = None,
    output: str | None = "",
    read_out: str | None = None,
    example: list[Any] | Tensor | None = None,
    names: list[str] | None = None,
    groups: list[str] | None = None,
    task: str = "task",
) -> Population:
    """Bring your own networks out of checkpoints.

    Made for configurations: `population: {class_path: dynamo.from_checkpoints, init_args: {...}}`. Nothing in the files
    is executed. A Lightning checkpoint brings the arguments that its module noted (`save_hyperparameters()`).

    Args:
        checkpoints: a pattern such as `lightning_logs/*/checkpoints/last.ckpt` (`**` for any depth), several of them,
            or one for each group.
        module: the class of the networks, in a configuration by its import path.
        init_args: arguments of the class; they win over those in a checkpoint.
        observe: layers whose outputs are the states, see `dynamo.observe`; without them forward returns both.
        output: the layer that gives the logits, see `dynamo.observe`.
        read_out: see `Population.from_modules`.
        example: a few real inputs `[B, ...]`, also as nested lists; see `Population.from_modules`.
        names: one per network; by default what distinguishes the files' paths.
        groups: one per network; by default those of `checkpoints`, else the class's name.
        task: what the networks were trained on.

    Raises:
        PopulationError: no file matches, one cannot be read or does not fit the class, or a network cannot be studied.

    Examples:
        >>> import dynamo, torch
        >>> for seed in range(2):
        ...     _ = torch.manual_seed(seed)
        ...     network = torch.nn.LSTM(3, 4, batch_first=True)
        ...     torch.save(network.state_dict(), f"seed={seed}.pt")
        >>> options = {"input_size": 3, "hidden_size": 4, "batch_first": True}
        >>> population = dynamo.from_checkpoints("seed=*.pt", torch.nn.LSTM, options, example=torch.rand(2, 5, 3))
        >>> [member.name for member in population.members]
        ['seed=0', 'seed=1']
    """
    if not (inspect.isclass(module) and issubclass(module, nn.Module)):
        raise PopulationError(f"module is {module!r}; name the class of the networks, a torch.nn.Module.")
    places: dict[str, str] | list[str] = [checkpoints] if isinstance(checkpoints, str) else checkpoints
    found = [
        (Path(file), group)
        for group, pattern in (places.items() if isinstance(places, dict) else (("", one) for one in places))
        for file in _matching(pattern)
    ]
    return Population.from_modules(
        [_network(file, module, init_args or {}) for file, _ in found],
        through_hooks(*observe, output=output) if observe else None,
        read_out=read_out,
        example=torch.as_tensor(example) if example is not None else None,
        names=names or distinguished([file for file, _ in found]),
        groups=groups or ([group for _, group in found] if isinstance(places, dict) else None),
        task=task,
    )


def _matching(pattern: str) -> list[str]:
    """The files of a pattern, in the order of their names."""
    files = [file for file in sorted(glob.glob(pattern, recursive=True)) if Path(file).is_file()]  # noqa: PTH207
    if not files:
        raise PopulationError(f"No checkpoint matches {pattern!r} (from {Path.cwd()}); correct the pattern.")
    return files


def _network(file: Path, module: type[nn.Module], init_args: Mapping[str, Any]) -> nn.Module:
    """One network as its checkpoint has it."""
    content = _content(file)
    weights = content.get("state_dict", content)
    noted = content.get("hyper_parameters", {}) if weights is not content else {}
    known = inspect.signature(module).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    options = {name: value for name, value in noted.items() if anything or name in known} | dict(init_args)
    try:
        network = module(**options)
    except Exception as error:
        raise PopulationError(
            f"{module.__name__} cannot be built with {options or 'no arguments'}: {error}; give its arguments by "
            "init_args."
        ) from error
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise PopulationError(
            f"{file} does not fit {module.__name__}: {reason}; name the class and the init_args it was saved with."
        ) from error
    return network


def _content(file: Path) -> Mapping[str, Any]:
    """What a checkpoint holds; nothing in it is executed."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PopulationError(
            f"{file} cannot be read as weights ({type(error).__name__}): it is damaged, or holds more than tensors. "
            "Of a whole pickled module that you trust, save the state_dict()."
        ) from error
    if not isinstance(content, Mapping):
        raise PopulationError(f"{file} holds {type(content).__name__}, no checkpoint; save a module's state_dict().")
    return content


def distinguished(files: Sequence[Path]) -> list[str]:
    """What distinguishes the paths of some files? Their names alone where those do, else from where they part."""
    names = [file.stem for file in files]
    if len(set(names)) == len(names):
        return names
    apart = [os.path.relpath(file, os.path.commonpath([one.parent for one in files])) for file in files]
    return [Path(one).with_suffix("").as_posix() for one in apart]
