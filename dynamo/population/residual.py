"""Residual networks for 32x32 images: one as an ordinary module, and N of them with stacked weights, run in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, Self

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.func import functional_call

from dynamo.population.base import Bundle, Criterion
from dynamo.population.in_turn import losses_in_turn
from dynamo.population.residual_block import MOMENTUM as MOMENTUM
from dynamo.population.residual_block import BatchNorm, Block, convolution
from dynamo.population.residual_block import thinned as thinned
from dynamo.types import TaskBatch, Trajectory

RESNET34_WIDTHS: Final = (64, 128, 256, 512)
RESNET34_DEPTHS: Final = (3, 4, 6, 3)
STRIDES: Final = (1, 2, 2, 2)
LARGEST: Final = {"widths": 4_096, "depths": 256}
"""Channels and blocks of a stage; a manifest that asks for more is none that we wrote. A thousand blocks, ResNet-1202's
are 600, take 2 s to build."""
IMAGE: Final = (3, 32, 32)


class ResidualClassifier(nn.Module):
    """What is one member? A 3x3 stem, four stages of residual blocks, the mean over positions, a linear readout.

    For images of 32x32: no pooling after the stem, stages of 32x32, 16x16, 8x8 and 4x4 positions. The defaults are
    ResNet-34. Starts with fresh weights, see `initialise`.

    Args:
        widths: channels of the four stages.
        depths: blocks of the four stages.
        classes: C.

    Raises:
        ValueError: widths or depths are not four whole numbers of at least 1.

    Examples:
        >>> import torch
        >>> from dynamo.population import ResidualClassifier
        >>> network = ResidualClassifier(widths=[2, 3, 4, 5], depths=[1, 1, 1, 1], classes=10).eval()
        >>> maps, logits = network(torch.randn(1, 3, 32, 32))
        >>> [list(stage.shape) for stage in maps], logits.shape
        ([[1, 2, 32, 32], [1, 3, 16, 16], [1, 4, 8, 8], [1, 5, 4, 4]], torch.Size([1, 10]))
    """

    def __init__(
        self, widths: Sequence[int] = RESNET34_WIDTHS, depths: Sequence[int] = RESNET34_DEPTHS, classes: int = 100
    ) -> None:
        super().__init__()
        check_stages(widths, depths)
        self.stem, self.norm = convolution(IMAGE[0], widths[0], 3), BatchNorm(widths[0])
        self.stages = nn.ModuleList()
        inputs = widths[0]
        for width, depth, stride in zip(widths, depths, STRIDES, strict=True):
            first = Block(inputs, width, stride)
            self.stages.append(nn.Sequential(first, *(Block(width, width, 1) for _ in range(depth - 1))))
            inputs = width
        self.readout = nn.Linear(inputs, classes)
        self.initialise()

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights.

        Convolutions are normal with variance 2 / (outputs * kernel area), as He et al. (2015) have it for the backward
        pass; batch norms have scale 1 and shift 0; the readout is torch.nn's. The last scale of a block is not 0, as
        Goyal et al. (2017) advise for deep networks: with one block a stage the network then learns several times more
        slowly (digits, 95 steps: 0.47 against 0.94 right).

        Args:
            generator: on the CPU; torch's global one by default.
        """
        for part in self.modules():
            match part:
                case nn.Conv2d():
                    fan_out = part.out_channels * part.kernel_size[0] * part.kernel_size[1]
                    fresh = torch.empty(part.weight.shape).normal_(0.0, (2.0 / fan_out) ** 0.5, generator=generator)
                    part.weight.copy_(fresh)
                case nn.Linear():
                    bound = part.in_features**-0.5
                    for own in (part.weight, part.bias):
                        own.copy_(torch.empty(own.shape).uniform_(-bound, bound, generator=generator))
                case BatchNorm():
                    for own, value in zip((*part.parameters(), *part.buffers()), (1.0, 0.0, 0.0, 1.0), strict=True):
                        own.fill_(value)

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Images `[B, 3, 32, 32]` -> the four stages' maps `[B, channels, h, w]` and logits `[B, C]`."""
        check_images(images)
        maps = images.contiguous(memory_format=torch.channels_last)  # a third less time than channels first
        maps = nnf.relu(self.norm(self.stem(maps)), inplace=True)
        seen = []
        for stage in self.stages:
            maps = stage(maps)
            seen.append(maps)
        return tuple(seen), self.readout(maps.mean((2, 3)))


class ResidualBundle(Bundle):
    """How do N residual networks run? One after the other, since each fills the device, from stacked weights.

    Outputs, states, gradients and running statistics equal those of N separate `ResidualClassifier`s. In training
    (`losses`) one member's graph is alive at a time. Once frozen (`requires_grad_(False)`, as `Population` does) a
    bundle stays in evaluation mode, whatever module it is part of: no running statistic moves any more.

    Memory, in floats of 4 bytes, of N = 20 ResNet-34 at B = 128. Frozen, the population keeps its weights alone, 20 *
    21.3 M: 1.7 GB, and what a step shows of it, 122,880 floats of stage outputs per member and image: 1.3 GB for all
    20, twice that while they are stacked (`members_per_step` of the meta task divides this). A member's training step
    keeps 2.0 M floats per image (both convolutions' and activations' outputs of every block): 1.0 GB, 0.5 GB at bf16;
    all members at once would keep 20 times that. Beside it lie weights, gradients and momentum: 5.1 GB.

    Args:
        count: N.
        widths: channels of the four stages.
        depths: blocks of the four stages.
        classes: C.

    Examples:
        >>> import torch
        >>> from dynamo import TaskBatch
        >>> from dynamo.population import ResidualBundle
        >>> bundle = ResidualBundle(2, widths=[2, 3, 4, 5], depths=[1, 1, 1, 1], classes=10).eval()
        >>> bundle.initialise([0, 1])
        >>> images = TaskBatch(torch.randn(4, 3, 32, 32), torch.zeros(4).long(), torch.ones(4).long())
        >>> bool(torch.allclose(bundle(images).output[1], bundle.member(1)(images.inputs)[1], atol=1e-5))
        True
    """

    kind: ClassVar[str] = "residual"
    reads = "images"
    positions = tuple((IMAGE[1] // step, IMAGE[2] // step) for step in (1, 2, 4, 8))

    def __init__(
        self,
        count: int,
        widths: Sequence[int] = RESNET34_WIDTHS,
        depths: Sequence[int] = RESNET34_DEPTHS,
        classes: int = 100,
    ) -> None:
        super().__init__()
        self.count, self.widths, self.depths = count, tuple(widths), tuple(depths)
        with torch.device("meta"):  # its weights are replaced at once: none is drawn
            self.network = ResidualClassifier(widths, depths, classes)
        for part in self.network.modules():
            for name, own in list(part.named_parameters(recurse=False)):
                setattr(part, name, nn.Parameter(torch.zeros(count, *own.shape)))
            for name, buffer in list(part.named_buffers(recurse=False)):
                setattr(part, name, torch.zeros(count, *buffer.shape))

    @property
    def settings(self) -> dict[str, Any]:
        """See `Bundle.settings`."""
        return {"widths": list(self.widths), "depths": list(self.depths), "classes": self.classes}

    @classmethod
    def build(cls, count: int, settings: dict[str, Any]) -> Self:
        """See `Bundle.build`."""
        return cls(count, **settings)

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """See `Bundle.hidden_sizes`; the widths."""
        return self.widths

    @property
    def classes(self) -> int:
        """C."""
        return self.network.readout.bias.shape[1]

    def initialise(self, seeds: Sequence[int]) -> None:
        """Fresh weights; member i's depend on `seeds[i]` alone, see `ResidualClassifier.initialise`."""
        for index, seed in enumerate(seeds):
            self._member(index).initialise(torch.Generator().manual_seed(seed))

    def train(self, mode: bool = True) -> Self:
        """Training mode only where there is something to train: see the class."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    def forward(self, batch: TaskBatch, select: Tensor | None = None) -> Trajectory:
        """See `Bundle.forward`; hidden: four `[n, B, channels, h, w]`, channels last in memory; output `[n, B, C]`."""
        seen, logits = zip(*self._in_turn(batch, select), strict=True)
        stages = zip(*seen, strict=True)
        hidden = (torch.stack([maps.movedim(1, -1) for maps in stage]).movedim(-1, 2) for stage in stages)
        return Trajectory(tuple(hidden), torch.stack(logits))

    def answers(self, batch: TaskBatch, select: Tensor | None = None) -> Tensor:
        """See `Bundle.answers`; without gradients no more than one member's maps are alive at a time."""
        return torch.stack([logits for _, logits in self._in_turn(batch, select)])

    def losses(self, batch: TaskBatch, criterion: Criterion) -> Tensor:
        """See `Bundle.losses`; gradients are found at once, member by member, see `losses_in_turn`."""
        tensors = self.network.state_dict(keep_vars=True)
        trained = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
        if not (trained and torch.is_grad_enabled()):
            return super().losses(batch, criterion)
        images, own_items = _for_each(batch.inputs, self.count), batch.lengths.dim() == 2

        def loss(index: int, weights: Sequence[Tensor]) -> Tensor:
            own = {name: tensor[index] for name, tensor in tensors.items() if name not in trained}
            own.update(zip(trained, weights, strict=True))
            _, logits = functional_call(self.network, own, (images[index],))
            targets = batch.targets[index : index + 1] if own_items else batch.targets
            return criterion(logits.unsqueeze(0), targets).squeeze(0)

        return losses_in_turn(list(trained.values()), loss)

    def read_out(self, hidden: Tensor, select: Tensor | None = None) -> Tensor:
        """See `Bundle.read_out`; maps of the last stage `[n, B, channels, h, w]` -> `[n, B, C]`."""
        readout = self.network.readout
        weight, bias = (p if select is None else p[select] for p in (readout.weight, readout.bias))
        return torch.baddbmm(bias.unsqueeze(1), hidden.mean((3, 4)), weight.mT)

    def member(self, index: int) -> ResidualClassifier:
        """See `Bundle.member`."""
        return self._member(index, copy=True)

    def _member(self, index: int, copy: bool = False) -> ResidualClassifier:
        """One member as a module, in the mode of the bundle; by default its weights are parts of the stack."""
        with torch.device("meta"):
            module = ResidualClassifier(self.widths, self.depths, self.classes)
        stacked = self.network.state_dict()
        own = {name: tensor[index].clone() if copy else tensor[index] for name, tensor in stacked.items()}
        module.load_state_dict(own, assign=True)
        return module.train(self.training)

    def _in_turn(self, batch: TaskBatch, select: Tensor | None) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """Maps and logits of one member after the other.

        `unbind`, since the gradient of `p[i]` is a tensor of the size of all of p, for every member.
        """
        chosen = range(self.count) if select is None else select.tolist()
        images = _for_each(batch.inputs, len(chosen))
        tensors = {name: tensor.unbind() for name, tensor in self.network.state_dict(keep_vars=True).items()}
        for index, items in zip(chosen, images, strict=True):
            yield functional_call(self.network, {name: own[index] for name, own in tensors.items()}, (items,))


def check_stages(widths: Sequence[int], depths: Sequence[int]) -> None:
    """Refuse stages that no network, or none that fits a machine, is built of; the ValueError names the option."""
    for name, values in (("widths", widths), ("depths", depths)):
        largest = LARGEST[name]
        if len(values) != len(STRIDES) or not all(type(value) is int and 1 <= value <= largest for value in values):
            wanted = f"{len(STRIDES)} whole numbers from 1 to {largest}, one per stage"
            raise ValueError(f"{name} is {list(values[:9])}; it has to be {wanted}.")


def check_images(images: Tensor) -> None:
    """Refuse what is no stack of 32x32 colour images, by a ValueError that names the shape."""
    if images.dim() < 4 or images.shape[-3:] != IMAGE:
        raise ValueError(
            f"A residual network reads images [..., 3, 32, 32], and was given {list(images.shape)}; resize them, and "
            "put the three colours first."
        )


def _for_each(images: Tensor, count: int) -> Tensor:
    """Images as `[n, B, 3, 32, 32]`: each member its own, or all the same."""
    check_images(images)
    if images.dim() == 5 and len(images) != count:
        raise ValueError(f"{count} networks were given images for {len(images)}; each needs its own.")
    return images if images.dim() == 5 else images.expand(count, *images.shape)
