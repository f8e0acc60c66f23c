"""G: what do the networks say of a state?"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Heads(nn.ModuleDict):
    """What do the networks of the map answer to each task? One linear readout per task.

    Args:
        size: S, of the last stage.
        counts: C of every task; 0 where the networks have no answers.
    """

    def __init__(self, size: int, counts: Mapping[str, int]) -> None:
        super().__init__({task: nn.Linear(size, count) for task, count in counts.items() if count})
        self.counts = dict(counts)

    def forward(self, states: Tensor, task: str) -> Tensor:
        """States `[..., S]` -> logits `[..., C]` of a task."""
        if not self.counts[task]:
            return states.new_zeros(*states.shape[:-1], 0)
        logits: Tensor = self[task](states)
        return logits
