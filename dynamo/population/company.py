"""Does a member come out the same, bit for bit, whoever is computed beside it? What a CPU needs for that.

Parts of a population are trained by themselves and joined (`PopulationTask`'s `members`), so no sum and no function may
round otherwise because N is another. Measured on torch 2.14 with 1 to 3 threads, with AVX2 and with AVX-512, these do,
and nothing else that a recurrent bundle or its optimiser calls:

- a product of one pair of matrices, whose long sum is dealt out to the threads; of more pairs each is summed by one;
- a norm over the whole of a tensor (N = 1): its numbers are summed in another order than those of rows;
- `sigmoid`: at the end of each thread's share, what does not fill a vector is computed by another formula;
- fused AdamW and SGD: the same, at the end of each parameter.

Where there are fewer members than threads, and more than 2 of these, a processor without AVX-512 shares single products
among them, and the last bits differ; `PopulationTask` says so. Not to share them would cost a small population several
times its work. No such promise holds on a GPU, whose libraries choose a kernel by N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

VECTOR: Final = 64
"""Numbers that are a whole number of vectors on every CPU: torch takes 2 of up to 16 at a time."""
FUSED_VECTOR: Final = 16
"""The same for torch's fused optimisers, which take one at a time."""
SHARE: Final = 32_768
"""torch gives no thread less than this to do (its `GRAIN_SIZE`)."""


def paired(*stacked: Tensor) -> tuple[Tensor, ...]:
    """The same tensors `[N, ...]`; a single member's, where threads would share its sums, twice: `[2, ...]`, no copy.

    Take the first N of what comes out. The second of two is computed for nothing, by a thread that would have helped.
    """
    if len(stacked[0]) > 1 or stacked[0].device.type != "cpu" or torch.get_num_threads() == 1:
        return stacked
    return tuple(tensor.expand(2, *tensor.shape[1:]) for tensor in stacked)


def affine(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each member's `inputs @ weight.T + bias`: `[N, items, in]`, `[N, out, in]`, `[N, out]` -> `[N, items, out]`."""
    count = len(weight)
    if torch.is_grad_enabled():  # it is the gradient of the weight that is a long sum
        inputs, weight, bias = paired(inputs, weight, bias)
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT)[:count]


def products(left: Tensor, right: Tensor) -> Tensor:
    """`bmm`, `[N, a, long]` and `[N, long, b]` -> `[N, a, b]`."""
    return torch.bmm(*paired(left, right))[: len(left)]


def norms(stacked: Tensor) -> Tensor:
    """The norm of each member's part, `[N, ...]` -> `[N]`."""
    rows = stacked.flatten(1)
    if len(rows) == 1:  # torch sums all of a tensor in another order than each of its rows, with one thread too
        rows = torch.cat([rows, rows])
    lengths: Tensor = rows.norm(dim=1)
    return lengths[: len(stacked)]


def rooms(inputs: Sequence[Tensor], keep: bool) -> list[tuple[Tensor, Tensor]]:
    """Where something of each step's size will lie, for a function that is applied to it in place.

    Args:
        inputs: one tensor per step, all of one shape.
        keep: a place of its own for every step; else the same one again and again.

    Returns:
        Per step a tensor of that shape, with nothing in it yet, and all the memory at whose beginning it lies: every
        thread's share of that is a whole number of vectors. Apply the function to the latter.
    """
    shape, size = inputs[0].shape, inputs[0].numel()
    count = len(inputs) if keep else 1
    memory = inputs[0].new_empty(count, _filled_up(size) if inputs[0].device.type == "cpu" else size)
    places = list(zip(memory[:, :size].view(count, *shape).unbind(), memory.unbind(), strict=True))
    return places if keep else places * len(inputs)


def in_whole_vectors(parameter: Tensor) -> bool:
    """Whether a fused optimiser treats each member of `[N, ...]` alike; else the last numbers go by another formula."""
    return parameter.device.type != "cpu" or parameter[0].numel() % FUSED_VECTOR == 0


def _filled_up(size: int) -> int:
    """The next larger size that splits into whole vectors for as many threads as will share it."""
    size += -size % VECTOR
    while size % (VECTOR * min(torch.get_num_threads(), -(-size // SHARE))):
        size += VECTOR
    return size
