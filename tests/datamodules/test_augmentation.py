"""Does every policy do to each image what its definition says, whoever else is in the batch?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from datamodules import augmentation
from datamodules.augmentation import (
    HOLE,
    OPERATIONS,
    PADDING,
    POLICIES,
    SIGNED,
    UNSIGNED,
    Mixing,
    augment,
    crop,
    cut_out,
    draw_crops,
    draw_holes,
    draw_mixing,
    draw_operations,
    operate,
)

H, W = 32, 24  # unequal, so that a mixed-up axis shows


def some_images(members: int = 3, items: int = 5, height: int = H, width: int = W) -> Tensor:
    """Half smooth, half noisy, so that every operation has something to do."""
    noise = torch.randint(0, 256, (members, items, 3, height, width), dtype=torch.uint8)
    ramp = torch.linspace(20, 200, width).expand(members, items, 3, height, width)
    smooth = (ramp * torch.rand(members, items, 3, 1, 1)).to(torch.uint8)
    return torch.where(torch.arange(items)[:, None, None, None] % 2 == 0, noise, smooth)


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng([7, seed]) for seed in seeds]


def as_floats(images: Tensor) -> Tensor:
    return images.float().sub_(100).div_(50)


def test_a_crop_is_a_window_of_the_padded_image_and_a_flip_its_mirror() -> None:
    images = some_images(2, 6)
    top = torch.tensor([[0, 8, 4, 4, 1, 7], [4, 4, 0, 8, 3, 2]])
    left = torch.tensor([[0, 8, 4, 1, 4, 0], [4, 4, 8, 0, 6, 5]])
    mirrored = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 1, 0]]).bool()
    cropped = crop(images, mirrored, top, left)
    assert cropped.dtype == torch.uint8
    for n in range(2):
        for b in range(6):
            padded = np.pad(images[n, b].numpy(), [(0, 0), (PADDING, PADDING), (PADDING, PADDING)])
            window = padded[:, top[n, b] : top[n, b] + H, left[n, b] : left[n, b] + W]
            np.testing.assert_array_equal(cropped[n, b], window[:, :, ::-1] if mirrored[n, b] else window)
    assert cropped[0, 2].equal(images[0, 2])  # 4 and 4: the middle of the padded image is the image
    assert cropped[1, 1].equal(images[1, 1].flip(-1))


def test_crops_and_flips_are_drawn_evenly() -> None:
    images = torch.zeros(2, 20_000, 3, 1, 1, dtype=torch.uint8)
    mirrored, top, left = draw_crops(images, generators(0, 1), True)
    assert abs(float(mirrored.float().mean()) - 0.5) < 0.01
    for offsets in (top, left):
        shares = offsets.flatten().bincount(minlength=9) / offsets.numel()
        torch.testing.assert_close(shares, torch.full((9,), 1 / 9), atol=0.01, rtol=0)
    for one, other in ((top, left), (top, mirrored), (left, mirrored), (top[0], top[1])):
        pair = torch.stack([one.flatten(), other.flatten()]).float()
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.02
    assert not draw_crops(images, generators(0, 1), False)[0].any()


def test_where_nothing_may_be_mirrored_the_crops_stay_the_same() -> None:
    images = some_images()
    mirrored, *windows = draw_crops(images, generators(0, 1, 2), True)
    seen = augment(images, "flip_crop", generators(0, 1, 2), False, as_floats).images
    assert mirrored.any()
    assert seen.equal(as_floats(crop(images, torch.zeros_like(mirrored), *windows)))


def test_a_hole_is_the_mean_colour_and_all_outside_it_stays() -> None:
    images = torch.rand(2, 3, 3, H, W) + 1
    row = torch.tensor([[0, 31, 16], [8, 20, 3]])
    column = torch.tensor([[0, 23, 12], [8, 2, 22]])
    cut = cut_out(images, row, column)
    for n in range(2):
        for b in range(3):
            expected = images[n, b].clone()
            y, x = int(row[n, b]) - HOLE // 2, int(column[n, b]) - HOLE // 2
            expected[:, max(0, y) : y + HOLE, max(0, x) : x + HOLE] = 0
            assert cut[n, b].equal(expected)
    assert int((cut[0, 2] == 0).sum()) == 3 * HOLE * HOLE  # in the middle: a whole one
    assert int((cut[0, 0] == 0).sum()) == 3 * (HOLE // 2) ** 2  # in the corner: a quarter


def test_holes_lie_anywhere() -> None:
    row, column = draw_holes(torch.zeros(1, 20_000, 3, 32, 8), generators(0))
    for places, size in ((row, 32), (column, 8)):
        shares = places.flatten().bincount(minlength=size) / places.numel()
        torch.testing.assert_close(shares, torch.full((size,), 1 / size), atol=0.01, rtol=0)


def test_a_mixture_is_what_its_shares_say() -> None:
    partner, share = torch.tensor([[1, 2, 0], [0, 2, 1]]), torch.tensor([[0.25, 1.0, 0.0], [0.5, 0.9, 0.125]])
    values = torch.rand(2, 3, 4, 5)
    mixed = Mixing(partner, share).of(values)
    for n in range(2):
        for b in range(3):
            other = values[n, partner[n, b]]
            torch.testing.assert_close(mixed[n, b], share[n, b] * values[n, b] + (1 - share[n, b]) * other)


def test_mixing_keeps_sums_and_mixes_targets_like_images() -> None:
    images = torch.rand(3, 64, 3, 4, 4)
    mixing = draw_mixing(images, generators(0, 1, 2))
    assert mixing.partner.sort(1).values.equal(torch.arange(64).expand(3, -1))  # everyone is a partner once
    assert float(mixing.share.min()) >= 0
    assert float(mixing.share.max()) <= 1
    assert abs(float(mixing.share.mean()) - 0.5) < 0.05
    assert mixing.share.unique().numel() == 3 * 64
    classes = torch.eye(7)[torch.randint(7, (3, 64))]
    torch.testing.assert_close(mixing.of(classes).sum(-1), torch.ones(3, 64))
    # one more image of the class's own colour: its mixture shows the shares that the targets state
    coloured = classes[..., None, None].expand(-1, -1, -1, 2, 2)
    torch.testing.assert_close(mixing.of(coloured).mean((-1, -2)), mixing.of(classes))


@pytest.mark.parametrize("name", [*SIGNED, *UNSIGNED])
def test_an_operation_is_torchvisions_on_each_image_alone(name: str) -> None:
    images = some_images(1, 6)[0]
    magnitudes, signed = v2.RandAugment._AUGMENTATION_SPACE[name]
    assert signed == (name in SIGNED)
    scale = magnitudes(31, H, W)
    for sign in (1, -1) if signed else (1,):
        magnitude = 0.0 if scale is None else sign * float(scale[9])
        operation = {**SIGNED, **UNSIGNED}[name]
        found = operation(images, sign * augmentation.STRENGTH)
        nearest = v2.InterpolationMode.NEAREST
        for image, changed in zip(images, found, strict=True):
            expected = v2.RandAugment()._apply_image_or_video_transform(image, name, magnitude, nearest, {Tensor: None})
            apart = (changed.int() - expected.int()).abs()
            assert int(apart.max()) <= 1  # torchvision keeps its scales in float32: 0.27000001 rounds otherwise
            assert float((apart > 0).float().mean()) < 0.01
        assert found.equal(images) == (name == "Identity")


def test_every_image_gets_the_operation_that_was_drawn_for_it() -> None:
    assert set(SIGNED) | set(UNSIGNED) == set(v2.RandAugment._AUGMENTATION_SPACE)
    each = [(op, sign) for op in SIGNED.values() for sign in (1, -1)] + [(op, 1) for op in UNSIGNED.values()]
    for drawn in (np.random.default_rng(0).permutation(np.arange(46) % 23), np.full(46, 4), np.arange(46) // 10):
        images = some_images(2, 23)
        changed = operate(images, drawn)
        for image, found, number in zip(images.flatten(0, 1), changed.flatten(0, 1), drawn, strict=True):
            operation, sign = each[number]
            assert found.equal(operation(image[None], sign * augmentation.STRENGTH)[0])


def test_operations_are_drawn_evenly_and_signs_too() -> None:
    drawn = draw_operations(torch.zeros(2, 50_000, 3, 1, 1), generators(0, 1))
    shares = np.bincount(drawn, minlength=23) / 100_000
    np.testing.assert_allclose(shares[:18], 1 / 28, atol=0.003)  # nine of fourteen, half of each with one sign
    np.testing.assert_allclose(shares[18:], 1 / 14, atol=0.004)


def test_randaugment_is_two_operations_on_the_cropped_image() -> None:
    images = some_images(1, 40)
    rngs, again = generators(3), generators(3)
    seen = augment(images, "randaugment", rngs, True, as_floats).images
    expected = crop(images, *draw_crops(images, again, True))
    for _ in range(OPERATIONS):
        expected = operate(expected, draw_operations(expected, again))
    assert OPERATIONS == 2
    assert seen.equal(as_floats(expected))


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_member_sees_does_not_depend_on_company_or_order(policy: str) -> None:
    images = some_images(4, 9)
    before = images.clone()
    together = augment(images, policy, generators(0, 1, 2, 3), True, as_floats)
    turned = augment(images.flip(0), policy, generators(3, 2, 1, 0), True, as_floats)
    assert together.images.equal(turned.images.flip(0))
    for n in range(4):
        alone = augment(images[n : n + 1], policy, generators(n), True, as_floats)
        assert alone.images[0].equal(together.images[n])
        if together.mixing and alone.mixing:
            assert alone.mixing.partner[0].equal(together.mixing.partner[n])
            assert alone.mixing.share[0].equal(together.mixing.share[n])
    assert (together.mixing is not None) == (policy == "mixup")
    other = augment(images, policy, generators(9, 9, 9, 9), True, as_floats)
    assert other.images.equal(together.images) == (policy == "none")
    assert images.equal(before)  # the split itself is never written to


def test_none_only_normalises() -> None:
    images = some_images()
    assert augment(images, "none", generators(0, 1, 2), True, as_floats).images.equal(as_floats(images))


def test_torch_draws_no_random_number() -> None:
    images = some_images(1)
    before = torch.random.get_rng_state()
    for policy in POLICIES:
        augment(images, policy, generators(0), True, as_floats)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.gpu
@pytest.mark.parametrize("policy", POLICIES)
def test_the_device_shows_the_same_images(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "OPERATIONS", 1)  # a second one may widen what the first one rounds otherwise
    images = some_images(3, 60)
    here = augment(images, policy, generators(0, 1, 2), True, as_floats)
    there = augment(images.to("cuda"), policy, generators(0, 1, 2), True, as_floats)
    assert there.images.is_cuda
    apart = (there.images.cpu() - here.images).abs() * 50  # in levels of 0..255
    if policy == "randaugment":  # see the next test
        assert float((apart > 1.01).float().mean()) < 0.01
    else:
        assert float(apart.max()) < 0.01
    if here.mixing is not None:
        assert there.mixing is not None
        assert there.mixing.partner.cpu().equal(here.mixing.partner)
        assert there.mixing.share.cpu().equal(here.mixing.share)
        shares = torch.eye(7)[torch.randint(7, (3, 60))]
        torch.testing.assert_close(there.mixing.of(shares.to("cuda")).cpu(), here.mixing.of(shares))


@pytest.mark.gpu
def test_the_device_does_every_operation_alike() -> None:
    images, drawn = some_images(2, 23), np.arange(46) % 23
    before = images.to("cuda")
    there = operate(before, drawn).cpu()
    apart = (there.int() - operate(images, drawn).int()).abs().flatten(0, 1)
    # A level where float32 rounds otherwise; a pixel that lies halfway between two may be the other one of them.
    shares = (apart > 1).float().mean((1, 2, 3))
    assert float(shares.max()) < 0.01, dict(enumerate(shares.tolist()))
    assert before.cpu().equal(images)
