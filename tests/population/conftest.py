"""Tiny bundles and populations with weights that no two members share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dynamo.population import Member, Population, RecurrentBundle

SIZES = {"vocab_size": 11, "embedding_size": 3, "hidden_size": 5, "classes": 2}


@pytest.fixture
def make_bundle() -> Callable[..., RecurrentBundle]:
    """A bundle of `count` members whose seeds count up from `seed`; word vectors of a size that matters."""

    def make(count: int = 3, seed: int = 0, **settings: Any) -> RecurrentBundle:  # noqa: ANN401
        options = {"architecture": "gru", **SIZES, "embedding_scale": 1.0, **settings}
        bundle = RecurrentBundle.build(count, options)
        bundle.initialise(range(seed, seed + count))
        return bundle

    return make


@pytest.fixture
def make_population(make_bundle: Callable[..., RecurrentBundle]) -> Callable[..., Population]:
    """Two GRUs of group `PREFIXgru` and three vanilla RNNs of group `PREFIXrnn`, all of task "synthetic"."""

    def make(prefix: str = "", seed: int = 0, **options: Any) -> Population:  # noqa: ANN401
        bundles, members = [], []
        for count, architecture in ((2, "gru"), (3, "rnn")):
            group = prefix + architecture
            bundles.append(make_bundle(count, seed, architecture=architecture))
            members.append([Member(f"{group}-{i}", group, "synthetic", seed + i, 0.5) for i in range(count)])
        defaults = {
            "fingerprint": {"vocabulary": "0123456789", "data": "abcdefghij"},
            "class_names": {"synthetic": ("negative", "positive")},
            "config": {"lr": 0.01},
        }
        return Population(bundles, members, **{**defaults, **options})

    return make
