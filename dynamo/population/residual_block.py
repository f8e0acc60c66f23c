"""What residual networks are built of: the block of two convolutions, and its batch norm."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

MOMENTUM: Final = 0.1
"""What a batch counts in the running statistics of a batch norm."""


class BatchNorm(nn.Module):
    """What does a channel look like with mean and variance taken out, of the batch in training, of all so far later?

    That of torch.nn without its whole-number count of batches: everything is float, so that it can be stacked,
    averaged and stored like a weight.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, channels, h, w]` -> the same."""
        running = (self.running_mean, self.running_var)
        return nnf.batch_norm(maps, *running, self.weight, self.bias, self.training, MOMENTUM)


def thinned(maps: Tensor, stride: int) -> Tensor:
    """Every `stride`-th position: what a 1x1 convolution with that stride reads.

    With the stride, torch 2.15 on a CPU corrupts memory in its backward pass (6 to 8 channels, 9 images).
    """
    return maps if stride == 1 else maps[:, :, ::stride, ::stride]


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where sizes change (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(inputs, outputs, 3, stride), BatchNorm(outputs)
        self.conv2, self.norm2 = convolution(outputs, outputs, 3), BatchNorm(outputs)
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(convolution(inputs, outputs, 1), BatchNorm(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, inputs, h, w]` -> `[B, outputs, h / stride, w / stride]`."""
        inner = nnf.relu(self.norm1(self.conv1(maps)), inplace=True)
        return nnf.relu(self.norm2(self.conv2(inner)).add_(self.shortcut(thinned(maps, self.stride))), inplace=True)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps positions where it is (but for the stride), without a bias: a norm follows."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
