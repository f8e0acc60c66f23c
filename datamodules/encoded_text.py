"""How does a split of texts lie in memory, and how does a padded batch come out of it without waiting?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
import torch
from torch import Tensor

from datamodules.resident import tensors_digest
from dynamo.types import TaskBatch

Keep = Literal["head", "tail", "random"]

PAD, UNK = 0, 1
PAD_WORD, UNK_WORD = "<pad>", "<unk>"


class RawSplit(NamedTuple):
    """Texts as the publisher wrote them, with their class indices."""

    texts: list[str]
    labels: list[int]


def check_reading(max_length: int, keep: str) -> None:
    """Refuse a length or a part of the text that cannot be read."""
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}: set max_length to 1 or more.")
    if keep not in get_args(Keep):
        raise ValueError(f"keep must be one of {', '.join(get_args(Keep))}, got {keep!r}.")


@dataclass(frozen=True)
class EncodedText:
    """One split of one task: all texts in full; `max_length` and `keep` act when a batch is gathered.

    Attributes:
        tokens: int32, all token ids.
        offsets: int64 `[items + 1]`, text i is `tokens[offsets[i]:offsets[i + 1]]`.
        labels: int64 `[items]`.
        max_length: steps read of every text.
        keep: which steps of a longer text: the first, the last, or in training a random window (and in
            evaluation the last).
    """

    tokens: Tensor
    offsets: Tensor
    labels: Tensor
    max_length: int = 256
    keep: Keep = "tail"

    def validate(self, name: str, vocab_size: int, classes: int) -> None:
        """Raise a ValueError that says `name` if this cannot be what an encoder wrote."""
        if self.offsets.shape != (len(self.labels) + 1,) or len(self.labels) == 0:
            raise ValueError(f"{name}: {len(self.offsets)} offsets do not fit {len(self.labels)} labels.")
        if int(self.offsets[0]) != 0 or int(self.offsets[-1]) != len(self.tokens):
            raise ValueError(f"{name}: the offsets do not cover the {len(self.tokens)} tokens.")
        if int(self.offsets.diff().min()) < 1:
            raise ValueError(f"{name}: text {int(self.offsets.diff().argmin())} has no token.")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= classes:
            raise ValueError(f"{name}: a label lies outside 0..{classes - 1}.")
        if int(self.tokens.min()) <= PAD or int(self.tokens.max()) >= vocab_size:
            raise ValueError(f"{name}: a token id lies outside 1..{vocab_size - 1}.")

    @property
    def lengths(self) -> Tensor:
        """Steps that are read of every text, int64 `[items]`."""
        return self.offsets.diff().clamp(max=self.max_length)

    def to(self, device: torch.device) -> Self:
        """The same texts on `device`."""
        tokens, offsets, labels = self.tokens.to(device), self.offsets.to(device), self.labels.to(device)
        return replace(self, tokens=tokens, offsets=offsets, labels=labels)

    def reading(self, max_length: int, keep: Keep) -> Self:
        """The same texts, read in another way."""
        return replace(self, max_length=max_length, keep=keep)

    def select(self, items: Tensor) -> Self:
        """The texts at `items`, in that order, copied."""
        sizes = self.offsets.diff()[items]
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        shift = torch.repeat_interleave(self.offsets[items] - offsets[:-1], sizes)
        tokens = self.tokens[torch.arange(int(offsets[-1])) + shift]
        return replace(self, tokens=tokens, offsets=offsets, labels=self.labels[items])

    def digest(self) -> str:
        """The sha256 of what the source holds, whatever part of it is read."""
        return tensors_digest(self.tokens, self.offsets, self.labels)

    def gather(self, indices: Tensor, longest: int, rngs: Iterable[np.random.Generator] | None) -> TaskBatch:
        """The texts at `indices` (`[B]` or `[N, B]`), padded with 0 on the right to `longest` steps.

        `longest` comes from the host, so that a GPU is never waited for.
        """
        first = self.offsets[indices]
        size = self.offsets[indices + 1] - first
        lengths = size.clamp(max=self.max_length)
        if self.keep == "random" and rngs is not None:
            spare = size - lengths + 1
            drawn = np.stack([rng.random(indices.shape[-1]) for rng in rngs]).reshape(tuple(indices.shape))
            draw = torch.from_numpy(drawn).to(spare.device, dtype=torch.float32)
            first = first + (draw * spare).long().clamp(max=spare - 1)
        elif self.keep != "head":
            first = first + size - lengths
        steps = torch.arange(longest, device=indices.device)
        where = (first.unsqueeze(-1) + steps).clamp(max=len(self.tokens) - 1)
        padding = steps >= lengths.unsqueeze(-1)
        inputs = self.tokens[where].long().masked_fill(padding, PAD)
        return TaskBatch(inputs, self.labels[indices], lengths)
