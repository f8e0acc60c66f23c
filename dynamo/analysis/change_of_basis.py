"""The same networks in another basis: a control that a map of computations has to pass."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from dynamo.population.artifact import Population
from dynamo.population.base import Bundle
from dynamo.population.recurrence import GATES
from dynamo.population.recurrent import RecurrentBundle


def permuted_units(bundle: Bundle, member: int, order: Tensor) -> Bundle:
    """What is the same network with its hidden units in another order?

    Inputs, outputs and dynamics are the same; unit i of the copy is unit `order[i]` of the original.

    Args:
        bundle: recurrent networks of ours; they stay as they are.
        member: which of them, an index into the bundle.
        order: a permutation of the units, int64 `[H]`.

    Returns:
        A frozen copy of the bundle, the other members unchanged.

    Raises:
        ValueError: the bundle's units are not known, there is no such member, or `order` is no permutation.

    Source: the abstract of the paper ("less sensitive to reparameterization").

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.analysis import permuted_units
        >>> from dynamo.population import RecurrentBundle
        >>> bundle = RecurrentBundle(1, "gru", vocab_size=9, embedding_size=4, hidden_size=3, classes=2)
        >>> bundle.initialise([0])
        >>> order, items = torch.tensor([2, 0, 1]), TaskBatch(torch.tensor([[2, 3]]), torch.zeros(1), torch.tensor([2]))
        >>> one, other = bundle(items), permuted_units(bundle, 0, order)(items)
        >>> bool(torch.allclose(other.hidden[0], one.hidden[0][..., order]))
        True
        >>> bool(torch.allclose(other.output, one.output))
        True
    """
    if not isinstance(bundle, RecurrentBundle):
        raise ValueError(f"units are permuted in recurrent networks of ours, not in a {type(bundle).__name__}")
    units = bundle.hidden_sizes[0]
    if not 0 <= member < bundle.count:
        raise ValueError(f"there is no member {member} in a bundle of {bundle.count}; give 0..{bundle.count - 1}")
    if order.shape != (units,) or not torch.equal(order.sort().values.cpu(), torch.arange(units)):
        raise ValueError(f"order must hold each of the {units} units once, got {order.tolist()}")
    copy = bundle.take(range(bundle.count))
    rows = torch.cat([gate * units + order for gate in range(GATES[bundle.architecture])])
    with torch.no_grad():
        for stacked in (copy.weight_ih, copy.weight_hh, copy.bias_ih, copy.bias_hh):
            stacked[member] = stacked[member][rows]
        copy.weight_hh[member] = copy.weight_hh[member][:, order]
        copy.readout_weight[member] = copy.readout_weight[member][:, order]
    return copy


def in_another_basis(population: Population, names: Collection[str], seed: int = 0) -> Population:
    """What is the same population, the hidden units of some members in another order, each in its own?

    A map of what networks compute has to place them where it placed the originals, but for what it moves by from one
    seed of the meta-model to another.

    Args:
        population: of recurrent networks of ours; it stays as it is.
        names: the members whose units are permuted.
        seed: decides the orders.

    Raises:
        ValueError: there is no such member, or its units are not known.

    Source: the abstract of the paper ("less sensitive to reparameterization").

    Examples:
        >>> import torch
        >>> from dynamo import Population
        >>> from dynamo.analysis import in_another_basis
        >>> from dynamo.population import RecurrentClassifier
        >>> network = RecurrentClassifier("gru", 9, 4, hidden_size=5, classes=2)
        >>> turned = in_another_basis(Population.from_modules([network], names=["a"]), ["a"]).module("a")
        >>> words = torch.tensor([[2, 3, 4]])
        >>> bool(torch.allclose(turned(words)[1], network(words)[1], atol=1e-6))  # the same answers
        True
    """
    known = {member.name for member in population.members}
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"no member {missing[0]!r}; the population has {', '.join(sorted(known))}")
    generator = torch.Generator().manual_seed(seed)
    bundles = []
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        for index, member in enumerate(members):
            if member.name in names:
                bundle = permuted_units(bundle, index, torch.randperm(bundle.hidden_sizes[0], generator=generator))
        bundles.append(bundle)
    return population.with_members(population.bundle_members, bundles)
