"""Is the loss of every member the cross-entropy of its own items?"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as nnf

from dynamo.population.losses import cross_entropies


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_shares_are_targets_like_classes(smoothing: float) -> None:
    logits, classes = torch.randn(2, 5, 3), torch.tensor([0, 2, 1, 1, 0])
    shares = nnf.one_hot(classes, 3).float()
    expected = torch.stack([nnf.cross_entropy(own, classes, label_smoothing=smoothing) for own in logits])
    for targets in (classes, classes.expand(2, 5), shares, shares.expand(2, 5, 3)):
        torch.testing.assert_close(cross_entropies(logits, targets, smoothing), expected)
    mixed = 0.3 * shares + 0.7 * shares.flip(0)
    both = 0.3 * cross_entropies(logits, shares, smoothing) + 0.7 * cross_entropies(logits, shares.flip(0), smoothing)
    torch.testing.assert_close(cross_entropies(logits, mixed, smoothing), both)
    assert cross_entropies(logits.bfloat16(), classes).dtype == torch.float32
