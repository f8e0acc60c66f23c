"""How are training images augmented? A few policies, each for whole batches of many members at once, on the device.

| policy | what it does | source |
|---|---|---|
| none | nothing | |
| flip_crop | mirrors half of the images, cuts all from a copy padded by 4 black pixels | He et al. 2015, 1512.03385 |
| randaugment | flip_crop, then 2 of 14 operations of magnitude 9 of 30 | Cubuk et al. 2019, 1909.13719 |
| cutout | flip_crop, then a hole of 16x16 pixels in the mean colour | DeVries and Taylor 2017, 1708.04552 |
| mixup | flip_crop, then a mixture of each image with another one | Zhang et al. 2017, 1710.09412 |

Every random number is drawn on the host, by the member's own generator, so that what a member sees depends on
nobody else; a GPU is never waited for. Letters: `n` members that share a policy, `h`, `w` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as nnf
from torchvision.transforms.v2 import functional as tvf  # type: ignore[import-untyped]

POLICIES: Final = ("none", "flip_crop", "randaugment", "cutout", "mixup")
MIXING: Final = frozenset({"mixup"})
"""The policies that give an image a share in several classes."""

PADDING: Final = 4
HOLE: Final = 16
"""Pixels on a side: what the paper takes for CIFAR-10. Differs from the paper, which takes 8 for CIFAR-100."""
OPERATIONS, STRENGTH = 2, 9 / 30  # torchvision's RandAugment: 2 operations, magnitude 9 on a scale of 0 to 30
MIXUP_ALPHA: Final = 1.0
"""lambda ~ Beta(1, 1), uniform: what the paper takes for CIFAR (0.2 to 0.4 for ImageNet)."""

IntArray = npt.NDArray[np.int64]
_Operation = Callable[[Tensor, float], Tensor]
"""From uint8 images `[..., 3, h, w]` and a strength in -1..1 to such images."""


def _affine(images: Tensor, shear: Sequence[float] = (0, 0), shift: Sequence[float] = (0, 0)) -> Tensor:
    """Images slanted by the tangents `shear` about their corner, and shifted by shares of their size (whole pixels)."""
    pixels = [int(share * size) for share, size in zip(shift, (images.shape[-1], images.shape[-2]), strict=True)]
    slant = [math.degrees(math.atan(tangent)) for tangent in shear]
    moved: Tensor = tvf.affine(images, angle=0.0, translate=pixels, scale=1.0, shear=slant, center=[0.0, 0.0])
    return moved


_FARTHEST: Final = 150 / 331  # of an image's size
SIGNED: Final[dict[str, _Operation]] = {
    "ShearX": lambda images, s: _affine(images, shear=(0.3 * s, 0)),
    "ShearY": lambda images, s: _affine(images, shear=(0, 0.3 * s)),
    "TranslateX": lambda images, s: _affine(images, shift=(_FARTHEST * s, 0)),
    "TranslateY": lambda images, s: _affine(images, shift=(0, _FARTHEST * s)),
    "Rotate": lambda images, s: tvf.rotate(images, 30 * s),
    "Brightness": lambda images, s: tvf.adjust_brightness(images, 1 + 0.9 * s),
    "Color": lambda images, s: tvf.adjust_saturation(images, 1 + 0.9 * s),
    "Contrast": lambda images, s: tvf.adjust_contrast(images, 1 + 0.9 * s),
    "Sharpness": lambda images, s: tvf.adjust_sharpness(images, 1 + 0.9 * s),
}
"""RandAugment's operations that go both ways, with torchvision's ranges."""
UNSIGNED: Final[dict[str, _Operation]] = {
    "Identity": lambda images, _: images,
    "Posterize": lambda images, s: tvf.posterize(images, 8 - round(4 * s)),
    "Solarize": lambda images, s: tvf.solarize(images, 255 * (1 - s)),
    "AutoContrast": lambda images, _: tvf.autocontrast(images),
    "Equalize": lambda images, _: tvf.equalize(images),
}
"""And the others."""
_OPERATIONS = (
    *((operation, s) for operation in SIGNED.values() for s in (STRENGTH, -STRENGTH)),
    *((operation, STRENGTH) for operation in UNSIGNED.values()),
)


class Mixing(NamedTuple):
    """Which image was mixed into which, and how much of the first is left.

    Attributes:
        partner: position in the member's own batch, int64 `[n, B]`.
        share: of the image itself, in [0, 1], `[n, B]`.
    """

    partner: Tensor
    share: Tensor

    def of(self, values: Tensor) -> Tensor:
        """The mixture of `[n, B, ...]` over the batch: of images, or of class shares."""
        extra = (1,) * (values.dim() - 2)
        partner = values.gather(1, self.partner.view(*self.partner.shape, *extra).expand_as(values))
        return torch.lerp(partner, values, self.share.view(*self.share.shape, *extra))


class Augmented(NamedTuple):
    """Images as a network reads them, float32 `[n, B, 3, h, w]`, and how they were mixed, if they were."""

    images: Tensor
    mixing: Mixing | None


def augment(
    images: Tensor,
    policy: str,
    rngs: Sequence[np.random.Generator],
    flips: bool,
    normalise: Callable[[Tensor], Tensor],
) -> Augmented:
    """What do `n` members of one policy see of their images?

    Args:
        images: uint8 `[n, B, 3, h, w]`.
        policy: one of `POLICIES`.
        rngs: one generator per member, that nobody else draws from.
        flips: whether a mirrored image is of the same class; else none is mirrored.
        normalise: from uint8 to float32 with mean 0.
    """
    if policy != "none":
        images = crop(images, *draw_crops(images, rngs, flips))
    if policy == "randaugment":
        for _ in range(OPERATIONS):
            images = operate(images, draw_operations(images, rngs))
    augmented, mixing = normalise(images), None
    if policy == "cutout":
        augmented = cut_out(augmented, *draw_holes(augmented, rngs))
    if policy == "mixup":
        mixing = draw_mixing(augmented, rngs)
        augmented = mixing.of(augmented)
    return Augmented(augmented, mixing)


def draw_crops(images: Tensor, rngs: Sequence[np.random.Generator], flips: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Whether each image is mirrored, and where its window begins in the padded image: top and left, `[n, B]`."""
    count = images.shape[1]
    drawn = [(rng.integers(2, size=count) * flips, *rng.integers(2 * PADDING + 1, size=(2, count))) for rng in rngs]
    mirrored, top, left = _to_device(np.array(drawn).swapaxes(0, 1), images)
    return mirrored.bool(), top, left


def crop(images: Tensor, mirrored: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Windows `[n, B, 3, h, w]` of images with `PADDING` black pixels around, mirrored from left to right or not."""
    flat = images.flatten(0, 1)
    windows = nnf.pad(flat, [PADDING] * 4).unfold(2, images.shape[-2], 1).unfold(3, images.shape[-1], 1)
    each = torch.arange(len(flat), device=images.device)
    # 0 <= left <= 2 PADDING, whichever side a mirrored image is cut from: so mirroring may come last.
    cut = windows[each, :, top.flatten(), left.flatten()]
    return torch.where(mirrored.flatten()[:, None, None, None], cut.flip(-1), cut).view(images.shape)


def draw_holes(images: Tensor, rngs: Sequence[np.random.Generator]) -> tuple[Tensor, Tensor]:
    """The centre of each hole, any pixel of the image: row and column, `[n, B]`."""
    drawn = [rng.integers(images.shape[-2:], size=(images.shape[1], 2)).T for rng in rngs]
    row, column = _to_device(np.array(drawn).swapaxes(0, 1), images)
    return row, column


def cut_out(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Normalised images with 0 (the mean colour) in a square of `HOLE` pixels, of which some may lie over the edge."""
    inside = []
    for size, centre in zip(images.shape[-2:], (row, column), strict=True):
        offset = torch.arange(size, device=images.device) - centre[..., None] + HOLE // 2
        inside.append((offset >= 0) & (offset < HOLE))
    return images.masked_fill((inside[0][..., :, None] & inside[1][..., None, :])[:, :, None], 0.0)


def draw_mixing(images: Tensor, rngs: Sequence[np.random.Generator]) -> Mixing:
    """A partner in the member's own batch and a share of its own for every image.

    Differs from the paper's code, which draws one share for a whole batch; the paper itself leaves it open.
    """
    count = images.shape[1]
    partner = np.stack([rng.permutation(count) for rng in rngs])
    share = np.stack([rng.beta(MIXUP_ALPHA, MIXUP_ALPHA, size=count) for rng in rngs])
    return Mixing(_to_device(partner, images), _to_device(share.astype(np.float32), images))


def draw_operations(images: Tensor, rngs: Sequence[np.random.Generator]) -> IntArray:
    """One operation for every image, int64 `[n * B]` on the host: 2k and 2k + 1 are the k-th signed one, + and -."""
    count, signed = images.shape[1], len(SIGNED)
    drawn = []
    for rng in rngs:
        number, negative = rng.integers(signed + len(UNSIGNED), size=count), rng.integers(2, size=count)
        drawn.append(np.where(number < signed, 2 * number + negative, signed + number))
    return np.concatenate(drawn)


def operate(images: Tensor, drawn: IntArray) -> Tensor:
    """Every image after the operation drawn for it; one call per operation and sign, for all images that drew it."""
    counts = np.bincount(drawn, minlength=len(_OPERATIONS)).tolist()
    order = _to_device(np.argsort(drawn, kind="stable"), images)
    parts = images.flatten(0, 1)[order].split(counts)
    changed = [operation(part, s) for part, (operation, s) in zip(parts, _OPERATIONS, strict=True) if len(part)]
    return torch.empty_like(images.flatten(0, 1)).index_copy_(0, order, torch.cat(changed)).view(images.shape)


def _to_device(drawn: npt.NDArray[Any], like: Tensor) -> Tensor:
    """Drawn numbers where the images are, without waiting for what the device does."""
    return torch.from_numpy(drawn).to(like.device, non_blocking=True)
