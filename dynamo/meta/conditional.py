"""How does theta enter a feed-forward network? It sets the scales and shifts of the normalisations."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dynamo.population.residual import MOMENTUM

Normalisation = Literal["group", "batch"]
_EPSILON = 1e-5


class ThetaNorm(nn.Module):
    """Which scale and shift has each channel at a point? 1 + a + A theta, and b + B theta.

    Args:
        channels: c.
        dimensions: D.
    """

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Linear(dimensions, channels), nn.Linear(dimensions, channels)
        for linear in (self.scale, self.shift):
            nn.init.normal_(linear.weight, std=dimensions**-0.5)
            nn.init.zeros_(linear.bias)

    def at(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift at points `[P, D]`, each `[P, c]`."""
        return 1 + self.scale(theta), self.shift(theta)


class ConditionalLayerNorm(ThetaNorm):
    """What does theta change where states are vectors? Each is normalised by itself (layer norm, Ba et al. 2016)."""

    def forward(self, states: Tensor, theta: Tensor) -> Tensor:
        """States `[P, ..., c]` at points `[P, D]` -> the same shape."""
        scale, shift = (part.view(len(theta), *[1] * (states.dim() - 2), -1) for part in self.at(theta))
        normal = nnf.layer_norm(states, states.shape[-1:])
        return torch.addcmul(shift.to(normal), normal, scale.to(normal))


class ConditionalNorm(ThetaNorm):
    """What does theta change where states are maps? They are normalised, then scaled and shifted per channel.

    Statistics of activations change with theta, so running averages that were gathered over many points fit none of
    them: "group" normalises every image by itself (group norm, Wu and He 2018) and has no statistics to go wrong, at
    the N points, between them, in training or not. "batch" is the control: statistics of the batch and point at hand in
    training, running averages over all points in evaluation.

    Args:
        channels: c.
        dimensions: D.
        kind: group or batch.
        group_size: channels that are normalised together; lowered to the largest divisor of c.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, dimensions: int, kind: Normalisation, group_size: int) -> None:
        super().__init__(channels, dimensions)
        self.groups = channels // max(size for size in range(1, group_size + 1) if channels % size == 0)
        self.kind = kind
        if kind == "batch":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: Tensor, theta: Tensor) -> Tensor:
        """Maps of the same B images at P points `[P * B, c, h, w]`, theta `[P, D]` -> maps of that shape."""
        points = len(theta)
        scale, shift = (part[:, None, :, None, None].to(maps) for part in self.at(theta))
        # Autocast would widen group norm to float32, and what is kept for the backward pass with it; the kernel sums
        # in float32 by itself.
        with torch.autocast(maps.device.type, enabled=False):
            normal = nnf.group_norm(maps, self.groups) if self.kind == "group" else self._by_batch(maps, points)
            return torch.addcmul(shift, normal.unflatten(0, (points, -1)), scale).flatten(0, 1)

    def _by_batch(self, maps: Tensor, points: int) -> Tensor:
        """Batch norm with statistics per point in training; with the running averages, one for all, in evaluation."""
        if not self.training:
            evaluated: Tensor = nnf.batch_norm(maps, self.running_mean, self.running_var, eps=_EPSILON)
            return evaluated
        apart = maps.unflatten(0, (points, -1))
        var, mean = torch.var_mean(apart, dim=(1, 3, 4), keepdim=True, correction=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean.mean(0).flatten().to(self.running_mean), MOMENTUM)
            self.running_var.lerp_(var.mean(0).flatten().to(self.running_var), MOMENTUM)
        normal: Tensor = ((apart - mean) * (var + _EPSILON).rsqrt()).flatten(0, 1)
        return normal
