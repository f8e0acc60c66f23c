"""From a list of trained modules to bundles and members: the checks at the door of `Population.from_modules`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from dynamo.population.base import Bundle
from dynamo.population.hooks import Probe, call
from dynamo.population.manifest import PopulationError
from dynamo.population.members import Member
from dynamo.population.modules import ModuleBundle, copies
from dynamo.population.observation import Form, Seen, answer, look, precision
from dynamo.population.recurrent import RecurrentBundle, RecurrentClassifier
from dynamo.types import SEQUENTIAL, reads_of

log = logging.getLogger(__name__)

EXAMPLE = ((1, 2, 1), (2, 2, 1))
"""Token ids of real words in any vocabulary, no padding; B and T differ, so that mixed-up axes show."""

TENSORS = 7
"""A `RecurrentClassifier` has so many: word vectors, four of one recurrent layer, two of the readout."""


def take_in(
    modules: Iterable[nn.Module],
    probe: Probe,
    example: Tensor | None,
    names: Sequence[str] | None,
    groups: Sequence[str] | None,
    task: str | Sequence[str],
    class_names: Mapping[str, Sequence[str]],
) -> tuple[list[Bundle], list[list[Member]]]:
    """Which bundles do these networks make, and who is in them? See `Population.from_modules`.

    Raises:
        PopulationError: a network that cannot be studied, or a description that does not fit.
    """
    given = _networks(modules)
    members = _members(given, names, groups, task)
    if not callable(probe.observe):
        raise PopulationError(
            "observe has to be a function of a module and its inputs, as dynamo.observe(...) makes it."
        )
    given_example, example = example is not None, torch.tensor(EXAMPLE) if example is None else example
    if not isinstance(example, Tensor) or example.dim() not in (2, 3, 4) or 0 in example.shape:
        raise PopulationError(
            "example has to be a tensor of a few inputs: token ids [B, T], signals [B, T, F], vectors [B, F] or images "
            "[B, channels, h, w]."
        )
    device = next((p.device for module in given for p in module.parameters()), torch.device("cpu"))
    alike: dict[Hashable, list[tuple[nn.Module, Member]]] = {}
    forms: dict[Hashable, Form] = {}
    odd: list[str] = []
    for index, copy in enumerate(copies(given)):
        name, member = f"modules[{index}] ({type(copy).__name__})", members[index]
        copy.to(device).requires_grad_(False).eval()
        seen = examine(copy, probe, example.to(device), name, given=given_example)
        form = seen.form
        if _are_probabilities(seen.output):
            odd.append(name)
        called = class_names.get(member.task)
        if called is not None and len(called) != form.classes:
            raise PopulationError(
                f"{name} has {form.classes} classes, class_names names {len(called)} for task {member.task!r}."
            )
        key = (member.task, form, _recipe(copy, probe))
        forms[key] = form
        alike.setdefault(key, []).append((copy, member))
    _warn(odd, members, [member for part in alike.values() for _, member in part])
    bundles = [_bundle([network for network, _ in part], probe, forms[key]) for key, part in alike.items()]
    return [bundle.to(device) for bundle in bundles], [[member for _, member in part] for part in alike.values()]


@torch.no_grad()
def examine(module: nn.Module, probe: Probe, example: Tensor, name: str, *, given: bool = True) -> Seen:
    """Can this network be studied?

    Args:
        module: in evaluation mode.
        probe: how to look into it.
        example: a few inputs.
        name: what errors call it.
        given: whether somebody chose the example.

    Returns:
        What it shows on the example, and what kind of network that is.

    Raises:
        PopulationError: it fails, is not finite, or its states are not a function of one item alone and, where it reads
            step by step, of what was read so far, whatever padding follows.
    """
    seen = look(module, probe, example, name, given=given)
    if seen.form.classes == 1:
        raise PopulationError(
            f"{name} has a single logit; observe has to return one for each class, for a yes-no network y "
            "torch.cat([torch.zeros_like(y), y], dim=-1)."
        )
    for what, weight in module.named_parameters():
        if not weight.isfinite().all():
            raise PopulationError(f"{name} has weights ({what}) that are not finite numbers.")
    if not all(part.isfinite().all() for part in (*seen.hidden, seen.output)):
        raise PopulationError(f"{name} has hidden states or logits that are not finite numbers.")
    tolerance = max(1e-3, 8 * torch.finfo(precision(module)).eps)
    alone = [look(module, probe, item, name) for item in example.split(1)]
    parts = [*zip(*(one.hidden for one in alone), strict=True), tuple(one.output for one in alone)]
    if _differ((*seen.hidden, seen.output), [torch.cat(part) for part in parts], tolerance):
        raise PopulationError(
            f"{name} answers differently where items come one by one: items have to be the first axis "
            "(batch_first=True), to be begun anew each time, and to meet no dropout in evaluation mode."
        )
    if reads_of(example) in SEQUENTIAL and example.shape[1] > 1:
        _check_causal(module, probe, example, seen, tolerance, name)
    if probe.read_out is not None and seen.form.classes:
        states = seen.hidden[-1]
        flat = seen.form.positions[-1] == () and states.dim() == 4
        _check_readout(module, probe, states.flatten(1) if flat else states, seen.output, tolerance, name)
        own = _own_answer(module, probe, example)
        if seen.form.stepwise and own is not None:
            _check_readout(module, probe, states[:, -1:], own.unsqueeze(1), tolerance, name)
    return seen


def _are_probabilities(output: Tensor) -> bool:
    """Whether answers `[..., C]` look like the outputs of a softmax, which nobody's logits do by chance."""
    if output.shape[-1] < 2:
        return False
    return bool(((output >= 0) & (output <= 1)).all() and ((output.sum(-1) - 1).abs() <= 1e-4).all())


def _warn(odd: Sequence[str], given: Sequence[Member], taken: Sequence[Member]) -> None:
    """Say what is no error, and probably not meant: answers of some networks that are no logits; another order."""
    if odd:
        told = ", ".join(odd[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
        log.warning(
            f"The answers of {told} look like probabilities (softmax): give logits, or lambda * L_output says little."
        )
    if list(taken) != list(given):
        log.warning(
            "Members stand in another order than they were given (networks of one size together): take names and "
            "groups from population.members."
        )


def _check_causal(module: nn.Module, probe: Probe, example: Tensor, seen: Seen, tolerance: float, name: str) -> None:
    """Refuse a network whose states know what is to come: with another last step, those before it have to stay."""
    other = torch.cat([example[:, :-1], torch.zeros_like(example[:, -1:])], dim=1)
    after = look(module, probe, other, name)
    shown = [*zip(seen.hidden, after.hidden, strict=True)] + [(seen.output, after.output)] * seen.form.stepwise
    if any(_differ([before[:, :-1]], [now[:, :-1]], tolerance) for before, now in shown):
        raise PopulationError(
            f"{name} answers differently at the same steps where something else (0, padding) follows: a state may "
            "depend only on what was read so far, so make it read in one direction (bidirectional=False, or a causal "
            "mask) and let padding stand on the right."
        )


def _check_readout(
    module: nn.Module, probe: Probe, states: Tensor, logits: Tensor, tolerance: float, name: str
) -> None:
    """Refuse a readout that does not say of the network's states what the network says."""
    assert probe.read_out is not None
    told = answer(module, probe.read_out, states, name)
    if told.shape != logits.shape or (told.softmax(-1) - logits.softmax(-1)).abs().max() > tolerance:
        raise PopulationError(
            f"{name}: read_out does not say of its hidden states what the network itself says; it has to return "
            f"the logits {list(logits.shape)} that belong to states {list(states.shape)} of the last stage."
        )


def _own_answer(module: nn.Module, probe: Probe, example: Tensor) -> Tensor | None:
    """What a network that answers once says after the last step `[B, C]`; None of one that answers at every step."""
    own = look(module, Probe(probe.observe), example, "")
    return None if own.form.stepwise else own.output


def _differ(before: Sequence[Tensor], after: Sequence[Tensor], tolerance: float) -> bool:
    """Whether tensors that ought to be equal are not, by more than a share of their size."""
    return any(
        bool((one - other).abs().max() > tolerance * one.abs().max())
        for one, other in zip(before, after, strict=True)
        if one.numel()
    )


def _networks(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The networks as a list, if that is what they are."""
    if isinstance(modules, nn.Module) and not isinstance(modules, nn.ModuleList):
        raise PopulationError(f"modules is one network ({type(modules).__name__}); give a list of several.")
    given = list(modules)
    if not given:
        raise PopulationError("modules is empty; give at least one trained network.")
    for index, module in enumerate(given):
        if not isinstance(module, nn.Module):
            raise PopulationError(f"modules[{index}] is of type {type(module).__name__}, no torch.nn.Module.")
    return given


def _members(
    modules: Sequence[nn.Module], names: Sequence[str] | None, groups: Sequence[str] | None, task: str | Sequence[str]
) -> list[Member]:
    """Who the networks are; those nobody named are called by their group, and groups by what the networks are."""
    if groups is None:
        groups = [m.architecture if isinstance(m, RecurrentClassifier) else type(m).__name__ for m in modules]
    tasks = [task] * len(modules) if isinstance(task, str) else task
    for what, values in (("groups", groups), ("names", names), ("task", tasks)):
        if values is None:
            continue
        if isinstance(values, str) or not all(isinstance(value, str) for value in values):
            raise PopulationError(f"{what} has to be a list of texts, one for each network.")
        if len(values) != len(modules):
            raise PopulationError(f"{what} has {len(values)} entries for {len(modules)} networks; give one for each.")
    if names is None:
        names = [f"{group}-{[*groups[:index]].count(group)}" for index, group in enumerate(groups)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PopulationError(f"Several networks are called {', '.join(twice)}; names have to be unique.")
    return [Member(*words) for words in zip(names, groups, tasks, strict=True)]


def _recipe(module: nn.Module, probe: Probe) -> tuple[object, ...] | None:
    """What `RecurrentClassifier`s that run batched have in common; None for every other network.

    Only weights are stacked, in float32: a network that is more than its weights runs as it is.
    """
    if type(module) is not RecurrentClassifier or probe.observe is not call:
        return None
    if any(tensor.dtype != torch.float32 for tensor in module.state_dict().values()) or _is_hooked(module):
        return None
    mode = {"gru": "GRU", "lstm": "LSTM", "rnn": "RNN_TANH"}[module.architecture]
    if getattr(module.recurrent, "mode", None) != mode or len(module.state_dict()) != TENSORS:
        return None  # somebody has built another layer into it
    vocabulary, embedding_size = module.embedding.weight.shape
    return module.architecture, vocabulary, embedding_size


def _is_hooked(module: nn.Module) -> bool:
    """Whether a hook, or a forward put into the object itself, takes part in what the network computes."""
    added = ("_forward_hooks", "_forward_pre_hooks", "forward")
    return any(vars(part).get(name) for part in module.modules() for name in added)


def _bundle(networks: Sequence[nn.Module], probe: Probe, form: Form) -> Bundle:
    """Networks that are alike as one bundle."""
    if _recipe(networks[0], probe) is None:
        return ModuleBundle(networks, [probe] * len(networks), form)
    return RecurrentBundle.from_modules([n for n in networks if isinstance(n, RecurrentClassifier)])
