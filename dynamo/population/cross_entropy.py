"""The loss of every member on its own items."""

from __future__ import annotations

import torch.nn.functional as nnf
from torch import Tensor


def cross_entropies(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """What is every member's loss? The mean cross-entropy over its items, float32 at least.

    Args:
        logits: `[n, B, C]`.
        targets: class indices `[B]` or `[n, B]`, or shares of the classes `[B, C]` or `[n, B, C]`.
        label_smoothing: share of the targets that is spread over all classes.

    Returns:
        `[n]`.
    """
    shape = logits.shape if targets.is_floating_point() else logits.shape[:2]
    wanted = targets.expand(shape).flatten(0, 1)
    logits = logits.float() if logits.dtype.itemsize < 4 else logits
    losses = nnf.cross_entropy(logits.flatten(0, 1), wanted, reduction="none", label_smoothing=label_smoothing)
    return losses.view(logits.shape[:2]).mean(1)
