"""Which kind of meta-model can emulate these networks? What `MetaTask` takes where no network is named."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import prod

from torch import nn

from dynamo.meta.checks import inputs_of, item_of
from dynamo.meta.perceptron import PerceptronMetaModel
from dynamo.meta.recurrent import RecurrentMetaModel
from dynamo.meta.residual import ResidualMetaModel, sides
from dynamo.meta.transformer import TransformerMetaModel
from dynamo.population.artifact import Population
from dynamo.population.base import Bundle
from dynamo.population.manifest import PopulationError
from dynamo.population.modules import ModuleBundle
from dynamo.population.residual import IMAGE
from dynamo.types import SEQUENTIAL

log = logging.getLogger(__name__)

MetaModel = RecurrentMetaModel | ResidualMetaModel | PerceptronMetaModel | TransformerMetaModel
LEAST = {"units": 64, "channels": 32}
"""Width that a stage of vectors, or of feature maps, has at least."""


def matching_network(population: Population, vocab_size: int, classes: Mapping[str, int], dimensions: int) -> MetaModel:
    """A meta-model that reads what the members read and has their stages of states.

    What is read step by step is emulated by a `RecurrentMetaModel`; networks with several stages and no recurrent
    layer, which transformers are, by a `TransformerMetaModel`. Of networks that read at once, those with feature maps
    are emulated by a `ResidualMetaModel`, others by a `PerceptronMetaModel`. Stages are at least as wide as the widest
    member's, and one block deep.

    Args:
        population: the members.
        vocab_size: of the data module; 0 where its items are no words.
        classes: C of every task.
        dimensions: D.

    Raises:
        PopulationError: the members have different inputs or stages, so that no meta-model has those of all.

    Examples:
        >>> from dynamo import Population
        >>> from dynamo.meta import matching_network
        >>> from dynamo.population import RecurrentClassifier
        >>> members = Population.from_modules([RecurrentClassifier("lstm", 9, 4, 3, classes=2)], task="film")
        >>> type(matching_network(members, vocab_size=9, classes={"film": 2}, dimensions=2)).__name__
        'RecurrentMetaModel'
    """
    first = population.bundles[0]
    for bundle, members in zip(population.bundles, population.bundle_members, strict=True):
        mine, theirs = _demands(bundle), _demands(first)
        if mine != theirs:
            raise PopulationError(
                f"No meta-model emulates both {population.members[0].name!r} ({theirs}) and {members[0].name!r} "
                f"({mine}): give all of them the same kind of inputs, and observe as many layers of each."
            )
    widths = [max(sizes) for sizes in zip(*(bundle.hidden_sizes for bundle in population.bundles), strict=True)]
    item = item_of(first)
    features = item[0] if first.reads == "signals" else 0
    network: MetaModel
    if first.reads in SEQUENTIAL:
        stages = len(first.hidden_sizes)
        if stages > 1 and not any(_recurs(bundle) for bundle in population.bundles):
            size = 8 * -(-max(LEAST["units"], *widths) // 8)
            network = TransformerMetaModel(
                vocab_size, classes, dimensions, size, depths=(1,) * stages, features=features
            )
        else:
            network = RecurrentMetaModel(vocab_size, classes, dimensions, features=features, stages=stages)
    elif any(first.positions):
        network = _residual(first, item, widths, classes, dimensions)
    else:
        reads = first.reads
        network = PerceptronMetaModel(
            0, classes, dimensions, prod(item), [max(LEAST["units"], w) for w in widths], reads
        )
    weights = sum(parameter.numel() for parameter in network.parameters())
    log.info(
        "The meta-model is a %s of %s weights, which matches the members; the option network names another.",
        type(network).__name__,
        f"{weights:,}",
    )
    return network


def _residual(
    bundle: Bundle, item: tuple[int, ...], widths: list[int], classes: Mapping[str, int], dimensions: int
) -> ResidualMetaModel:
    """One whose stages have the members' positions: strides come as near to them as can be, averaging does the rest."""
    sides_ = [max(one) if one else 1 for one in bundle.positions]
    before, strides = max(item[1:]), []
    for stage, side in enumerate(sides_):
        ratio = max(1, before // side)
        strides.append(min(ratio, 2 if stage else 8))
        before = -(-before // strides[-1])
    depths, wide = [1] * len(widths), [max(LEAST["channels"], width) for width in widths]
    positions = None
    if item != IMAGE or bundle.positions != sides(strides):
        positions = bundle.positions
    return ResidualMetaModel(
        0, classes, dimensions, wide, depths, channels=item[0], strides=strides, positions=positions
    )


def _demands(bundle: Bundle) -> str:
    """What a meta-model has to have for these networks, in words."""
    stages = " and ".join("x".join(map(str, one)) or "no" for one in bundle.positions)
    shape = "" if bundle.reads in SEQUENTIAL else f" with {stages} positions"
    count = len(bundle.hidden_sizes)
    return f"reads {inputs_of(bundle)}, {count} stage{'s' * (count > 1)}{shape}"


def _recurs(bundle: Bundle) -> bool:
    """Whether its networks have a recurrent layer of torch's."""
    return not isinstance(bundle, ModuleBundle) or any(
        isinstance(part, nn.RNNBase | nn.RNNCellBase) for part in bundle.modules()
    )
