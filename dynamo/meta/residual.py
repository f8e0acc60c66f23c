"""F and G of the residual meta-model: one ResNet whose normalisations theta sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dynamo.meta.conditional import ConditionalNorm, Normalisation
from dynamo.meta.heads import Heads
from dynamo.population.residual import IMAGE, LARGEST, RESNET34_DEPTHS, RESNET34_WIDTHS, STRIDES, thinned
from dynamo.types import Reads, Trajectory

IMAGES_AT_ONCE: Final = {"cpu": 128, "cuda": 4096}
"""Without gradients, no more images (points times items) than these go through the layers at once."""


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

    Depth is time: the states are the outputs of its stages, four by default. All weights but the norms' scales and
    shifts are the same at every point. Not given in the paper: that theta enters through the norms, and that these are
    group norms (measured against batch norms; see `ConditionalNorm` and benchmarks/bench_normalisation.py).

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
        widths: channels of every stage; at least those of the base models is advised.
        depths: blocks of every stage.
        normalisation: group, or batch as the control.
        group_size: channels that group norm takes together.
        channels: of the images.
        strides: of every stage, the first that of the stem; 1, 2, 2, 2, ... by default.
        positions: `(h, w)` of every stage as the members have them, to which its maps are averaged; `()` where theirs
            has no positions. By default those of 32x32 images with these strides, which are not averaged.

    Raises:
        ValueError: the data module's items are words, or an option is out of its range.

    Examples:
        >>> import torch
        >>> from dynamo.meta import ResidualMetaModel
        >>> network = ResidualMetaModel(0, {"photos": 10}, dimensions=2, widths=[2, 3, 4, 5], depths=[1, 1, 1, 1])
        >>> seen = network(torch.zeros(6, 2), torch.randn(1, 3, 32, 32), "photos")  # 6 points of the map, one image
        >>> [tuple(stage.shape) for stage in seen.hidden]
        [(6, 1, 2, 32, 32), (6, 1, 3, 16, 16), (6, 1, 4, 8, 8), (6, 1, 5, 4, 4)]
    """

    vocabulary = 0
    reads: Reads = "images"

    def __init__(
        self,
        vocab_size: int,
        classes: Mapping[str, int],
        dimensions: int,
        widths: Sequence[int] = RESNET34_WIDTHS,
        depths: Sequence[int] = RESNET34_DEPTHS,
        normalisation: Normalisation = "group",
        group_size: int = 16,
        channels: int = 3,
        strides: Sequence[int] | None = None,
        positions: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if vocab_size:
            raise ValueError("ResidualMetaModel reads images, the data module has words; use RecurrentMetaModel.")
        strides = strides or (STRIDES[0], *[STRIDES[1]] * (len(widths) - 1))
        for name, values in (("widths", widths), ("depths", depths), ("strides", strides)):
            check_stages(name, values, len(widths))
        for name, value in (("group_size", group_size), ("channels", channels)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it has to be at least 1.")
        self.dimensions, self.hidden_sizes, self.channels = dimensions, tuple(widths), channels
        self.averaged = positions is not None
        self.positions = tuple(tuple(one) for one in positions) if positions is not None else sides(strides)
        norm = (dimensions, normalisation, group_size)
        size = max(3, 2 * strides[0] - 1)  # wide enough that no pixel is passed over
        self.stem = nn.Conv2d(channels, widths[0], size, strides[0], size // 2, bias=False)
        self.stem_norm = ConditionalNorm(widths[0], *norm)
        self.stages = nn.ModuleList()
        before = widths[0]
        for width, depth, stride in zip(widths, depths, (1, *strides[1:]), strict=True):
            first = _Block(before, width, stride, norm)
            self.stages.append(nn.ModuleList([first, *(_Block(width, width, 1, norm) for _ in range(depth - 1))]))
            before = width
        self.heads = Heads(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def classes(self) -> dict[str, int]:
        """C of every task."""
        return self.heads.counts

    def forward(self, theta: Tensor, inputs: Tensor, task: str) -> Trajectory:
        """Run the networks at P points on the same images.

        Args:
            theta: points `[P, D]`.
            inputs: images `[B, channels, h, w]`.
            task: whose readout answers.

        Returns:
            hidden a map `[P, B, width, h, w]` of every stage, and output `[P, B, C]`.

        Raises:
            ValueError: images of other channels.
        """
        prepared = self.prepare(inputs)
        parts = [self.states(points, prepared) for points in self._tiles(theta, len(inputs))]
        hidden = parts[0] if len(parts) == 1 else tuple(_join(stage) for stage in zip(*parts, strict=True))
        return Trajectory(hidden, self.read_out(hidden[-1], task))

    def prepare(self, inputs: Tensor) -> Tensor:
        """What do the images give to every network of the map alike? The stem's maps `[B, width, h, w]`.

        Raises:
            ValueError: images of other channels, or of another size where no positions are set.
        """
        if inputs.dim() != 4 or inputs.shape[1] != self.channels:
            raise ValueError(
                f"all points read the same images [B, {self.channels}, h, w], and were given {list(inputs.shape)}."
            )
        if not self.averaged and inputs.shape[-2:] != IMAGE[1:]:
            raise ValueError(
                f"all points read images of 32x32 pixels, and were given {list(inputs.shape)}; set positions to those "
                "of the members' feature maps."
            )
        maps: Tensor = self.stem(inputs.to(memory_format=torch.channels_last))
        return maps

    def states(self, theta: Tensor, prepared: Tensor) -> tuple[Tensor, ...]:
        """Through which states do the networks at P points go? Differentiable, in theta too.

        Args:
            theta: `[P, D]`.
            prepared: what `prepare` returns.

        Returns:
            A map `[P, B, width, h, w]` of every stage.
        """
        points, hidden = len(theta), []
        maps = prepared.expand(points, *prepared.shape).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        maps = nnf.relu(self.stem_norm(maps, theta))
        for stage, positions in zip(self.stages, self.positions, strict=True):
            for block in stage:  # type: ignore[attr-defined]
                maps = block(maps, theta)
            shown = nnf.adaptive_avg_pool2d(maps, positions or (1, 1)) if self.averaged else maps  # type: ignore[arg-type]
            hidden.append(shown.unflatten(0, (points, -1)))
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
        return self.heads(states.mean((-2, -1)), task)  # type: ignore[no-any-return]

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


def check_stages(name: str, values: Sequence[int], count: int) -> None:
    """Refuse what does not describe `count` stages; the ValueError names the option."""
    largest = LARGEST.get(name, 16)
    if not count or len(values) != count or not all(type(value) is int and 1 <= value <= largest for value in values):
        wanted = f"{count or 'some'} whole numbers from 1 to {largest}, one per stage"
        raise ValueError(f"{name} is {list(values[:9])}; it has to be {wanted}.")


def sides(strides: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """How many positions has every stage of a network with these strides, on images of 32x32?"""
    height, width, found = *IMAGE[1:], []
    for stride in strides:
        height, width = -(-height // stride), -(-width // stride)
        found.append((height, width))
    return tuple(found)


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Maps of several parts `[p, B, c, h, w]` as one, channels last in memory as each of them is."""
    return torch.cat([part.movedim(2, -1) for part in parts]).movedim(-1, 2)
