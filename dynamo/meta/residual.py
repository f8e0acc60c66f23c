"""F and G of the residual meta-model: one ResNet whose normalisations theta sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dynamo.population.residual import (
    IMAGE,
    MOMENTUM,
    RESNET34_DEPTHS,
    RESNET34_WIDTHS,
    STRIDES,
    check_images,
    check_stages,
    thinned,
)
from dynamo.types import Trajectory

Normalisation = Literal["group", "batch"]

IMAGES_AT_ONCE: Final = {"cpu": 128, "cuda": 4096}
"""Without gradients, no more images (points times items) than these go through the layers at once."""
_EPSILON: Final = 1e-5


class ConditionalNorm(nn.Module):
    """What does theta change in the network? Maps are normalised, then scaled and shifted by linear maps of theta.

    The scale is 1 + a + A theta, the shift b + B theta, per channel. Statistics of activations change with theta, so
    running averages that were gathered over many points fit none of them: "group" normalises every image by itself
    (group norm, Wu and He 2018) and has no statistics to go wrong, at the N points, between them, in training or
    not. "batch" is the control: statistics of the batch and point at hand in training, running averages over all
    points in evaluation.

    Args:
        channels: c.
        dimensions: D.
        kind: group or batch.
        group_size: channels that are normalised together; lowered to the largest divisor of c.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, dimensions: int, kind: Normalisation, group_size: int) -> None:
        super().__init__()
        self.groups = channels // max(size for size in range(1, group_size + 1) if channels % size == 0)
        self.scale, self.shift = nn.Linear(dimensions, channels), nn.Linear(dimensions, channels)
        for linear in (self.scale, self.shift):
            nn.init.normal_(linear.weight, std=dimensions**-0.5)
            nn.init.zeros_(linear.bias)
        self.kind = kind
        if kind == "batch":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: Tensor, theta: Tensor) -> Tensor:
        """Maps of the same B images at P points `[P * B, c, h, w]`, theta `[P, D]` -> maps of that shape."""
        points = len(theta)
        scale, shift = (part[:, None, :, None, None].to(maps) for part in (1 + self.scale(theta), self.shift(theta)))
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


class _Block(nn.Module):
    """A basic block of He et al. (2016) with conditional norms: `[P * B, c, h, w]`, theta -> `[P * B, c', h', w']`."""

    def __init__(self, before: int, width: int, stride: int, norm: tuple[int, Normalisation, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.norm1 = ConditionalNorm(width, *norm)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = ConditionalNorm(width, *norm)
        self.stride = stride
        self.shortcut = None if before == width and stride == 1 else nn.Conv2d(before, width, 1, bias=False)
        self.shortcut_norm = None if self.shortcut is None else ConditionalNorm(width, *norm)

    def forward(self, maps: Tensor, theta: Tensor) -> Tensor:
        inner = nnf.relu(self.norm1(self.conv1(maps), theta))
        inner = self.norm2(self.conv2(inner), theta)
        if self.shortcut is not None and self.shortcut_norm is not None:
            maps = self.shortcut_norm(self.shortcut(thinned(maps, self.stride)), theta)
        return nnf.relu(inner + maps)


class ResidualMetaModel(nn.Module):
    """Which network stands at a point of the map? A ResNet whose norms theta sets (Figures 2, 4 and 10).

    Depth is time: the states are the outputs of the four stages. All weights but the norms' scales and shifts are the
    same at every point. Not given in the paper: that theta enters through the norms, and that these are group norms
    (measured against batch norms; see `ConditionalNorm` and benchmarks/bench_normalisation.py).

    Memory of a training step: F keeps `numbers_kept(widths, depths)` numbers for every pair of point and image, 3.0
    million for a ResNet-34: 12 MB, 6 MB at bf16. L_hidden keeps another 123 thousand (the gaps, float32) and the step
    two copies of as many (both sides' stages): 1.5 MB at most. So 20 ResNet-34s at batch 128, 2,560 pairs, need 15.4 +
    3.8 GB at bf16, the frozen population 1.7 GB and this network with gradients and Adam 0.4 GB: 22 GB of a GPU's 40,
    which leaves room for what lives for a moment. `members_per_step` divides it. At small scale
    on a CPU the peak is 1.2 to 1.3 times the count (benchmarks/bench_memory.py); it has not been measured on a GPU.

    Args:
        vocab_size: 0; linked from the data module, where 0 says that its items are images.
        classes: C of every task; G has one head per task.
        dimensions: D.
        widths: channels of the four stages; at least those of the base models is advised.
        depths: blocks of the four stages.
        normalisation: group, or batch as the control.
        group_size: channels that group norm takes together.

    Raises:
        ValueError: the data module's items are words, or an option is out of its range.
    """

    vocabulary = 0

    def __init__(
        self,
        vocab_size: int,
        classes: Mapping[str, int],
        dimensions: int,
        widths: Sequence[int] = RESNET34_WIDTHS,
        depths: Sequence[int] = RESNET34_DEPTHS,
        normalisation: Normalisation = "group",
        group_size: int = 16,
    ) -> None:
        super().__init__()
        if vocab_size:
            raise ValueError("ResidualMetaModel reads images, the data module has words; use RecurrentMetaModel.")
        check_stages(widths, depths)
        if group_size < 1:
            raise ValueError(f"group_size is {group_size}; it has to be at least 1.")
        self.dimensions, self.hidden_sizes = dimensions, tuple(widths)
        norm = (dimensions, normalisation, group_size)
        self.stem = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.stem_norm = ConditionalNorm(widths[0], *norm)
        self.stages = nn.ModuleList()
        before = widths[0]
        for width, depth, stride in zip(widths, depths, STRIDES, strict=True):
            first = _Block(before, width, stride, norm)
            self.stages.append(nn.ModuleList([first, *(_Block(width, width, 1, norm) for _ in range(depth - 1))]))
            before = width
        self.heads = nn.ModuleDict({task: nn.Linear(before, count) for task, count in classes.items()})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def classes(self) -> dict[str, int]:
        """C of every task."""
        return {task: len(self.get_parameter(f"heads.{task}.bias")) for task in self.heads}

    def forward(self, theta: Tensor, inputs: Tensor, task: str) -> Trajectory:
        """Run the networks at P points on the same images.

        Args:
            theta: points `[P, D]`.
            inputs: images `[B, 3, 32, 32]`.
            task: whose readout answers.

        Returns:
            hidden four maps `[P, B, channels, h, w]` and output `[P, B, C]`.

        Raises:
            ValueError: images of another size.
        """
        prepared = self.prepare(inputs)
        parts = [self.states(points, prepared) for points in self._tiles(theta, len(inputs))]
        hidden = parts[0] if len(parts) == 1 else tuple(_join(stage) for stage in zip(*parts, strict=True))
        return Trajectory(hidden, self.read_out(hidden[-1], task))

    def prepare(self, inputs: Tensor) -> Tensor:
        """What do the images give to every network of the map alike? The stem's maps `[B, channels, 32, 32]`.

        Raises:
            ValueError: images of another size.
        """
        check_images(inputs)
        if inputs.dim() != 4:
            raise ValueError(f"all points read the same images [B, 3, 32, 32], and were given {list(inputs.shape)}.")
        maps: Tensor = self.stem(inputs.to(memory_format=torch.channels_last))
        return maps

    def states(self, theta: Tensor, prepared: Tensor) -> tuple[Tensor, ...]:
        """Through which states do the networks at P points go? Differentiable, in theta too.

        Args:
            theta: `[P, D]`.
            prepared: what `prepare` returns.

        Returns:
            Four maps `[P, B, channels, h, w]`.
        """
        points, hidden = len(theta), []
        maps = prepared.expand(points, *prepared.shape).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        maps = nnf.relu(self.stem_norm(maps, theta))
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                maps = block(maps, theta)
            hidden.append(maps.unflatten(0, (points, -1)))
        return tuple(hidden)

    @torch.no_grad()
    def answers(self, theta: Tensor, prepared: Tensor, lengths: Tensor, task: str) -> Tensor:
        """What do the networks at P >= 1 points say of each image? Without gradient.

        Args:
            theta: `[P, D]`.
            prepared: what `prepare` returns.
            lengths: 1 for every image, `[B]`; unused, since an image has one answer.
            task: whose readout answers.

        Returns:
            Logits `[P, B, C]`.
        """
        theta = theta.to(self.stem.weight.dtype)
        last = (self.states(points, prepared)[-1] for points in self._tiles(theta, len(prepared)))
        return torch.cat([self.read_out(maps, task) for maps in last])

    def read_out(self, states: Tensor, task: str) -> Tensor:
        """G: the last stage's maps `[P, B, channels, h, w]` -> logits `[P, B, C]` of a task."""
        return self.heads[task](states.mean((-2, -1)))  # type: ignore[no-any-return]

    def _tiles(self, theta: Tensor, items: int) -> Sequence[Tensor]:
        """The points in parts that fit into caches; in one part where a graph is kept anyway."""
        if torch.is_grad_enabled():
            return (theta,)
        parts: Sequence[Tensor] = theta.split(max(1, IMAGES_AT_ONCE.get(theta.device.type, 1024) // max(1, items)))
        return parts


def numbers_kept(widths: Sequence[int], depths: Sequence[int]) -> int:
    """How many numbers does a pair of point and image leave waiting for the backward pass?

    Per norm its input, its normalised maps and, where one follows, the ReLU's output; every block has two norms and two
    ReLUs, the first of a later stage a third norm in its shortcut, and the positions that this reads; the stem has one
    of each.
    """
    side, before = IMAGE[-1], widths[0]
    kept = 3 * before * side**2
    for width, depth, stride in zip(widths, depths, STRIDES, strict=True):
        side //= stride
        kept += (6 * depth * width + (stride > 1) * (2 * width + before)) * side**2
        before = width
    return kept


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Maps of several parts `[p, B, c, h, w]` as one, channels last in memory as each of them is."""
    return torch.cat([part.movedim(2, -1) for part in parts]).movedim(-1, 2)
