"""Are N residual networks with stacked weights N residual networks, and is one of them a ResNet?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from dynamo.population import Member, Population, PopulationError
from dynamo.population.residual import ResidualBundle, ResidualClassifier
from dynamo.types import TaskBatch

WIDTHS, DEPTHS, CLASSES = [4, 6, 8, 10], [1, 2, 1, 1], 7
SIDES = (32, 16, 8, 4)


def make(count: int = 3, seed: int = 0, **settings: Any) -> ResidualBundle:  # noqa: ANN401
    """A bundle in which every block does something, and no two members have a tensor in common."""
    bundle = ResidualBundle(count, **{"widths": WIDTHS, "depths": DEPTHS, "classes": CLASSES, **settings})
    bundle.initialise(range(seed, seed + count))
    with torch.no_grad():
        for name, tensor in bundle.state_dict(keep_vars=True).items():
            if "norm" in name or "shortcut.1" in name:
                tensor.add_(torch.rand_like(tensor)).add_(0.1)
    return bundle


def batch(count: int | None = 3, items: int = 5) -> TaskBatch:
    """Random images, each member its own; `None`: all the same."""
    lead = (items,) if count is None else (count, items)
    return TaskBatch(torch.randn(*lead, 3, 32, 32), torch.randint(CLASSES, lead), torch.ones(lead, dtype=torch.int64))


def criterion(logits: Tensor, targets: Tensor) -> Tensor:
    """Each member's mean cross-entropy, weighted so that a mixed-up member shows."""
    own = zip(logits, targets.expand(logits.shape[:2]), strict=True)
    return torch.stack([nnf.cross_entropy(answer, wanted) for answer, wanted in own])


def images_of(items: TaskBatch, index: int) -> Tensor:
    return items.inputs[index] if items.inputs.dim() == 5 else items.inputs


def stack_of(modules: list[ResidualClassifier], pick: Callable[[ResidualClassifier, str], Tensor]) -> dict[str, Tensor]:
    """What `pick` finds in every module, stacked, under the bundle's names."""
    return {f"network.{name}": torch.stack([pick(m, name) for m in modules]) for name in modules[0].state_dict()}


def test_one_network_is_torchvision_s_resnet_with_a_small_stem() -> None:
    theirs = ResNet(BasicBlock, [1, 2, 1, 1], num_classes=CLASSES)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    ours = ResidualClassifier(depths=[1, 2, 1, 1], classes=CLASSES)
    with torch.no_grad():
        for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
    kept = {name: value for name, value in theirs.state_dict().items() if "num_batches_tracked" not in name}
    ours.load_state_dict(dict(zip(ours.state_dict(), kept.values(), strict=True)))
    images, targets = torch.randn(3, 3, 32, 32).double(), torch.tensor([0, 6, 2])
    ours.double(), theirs.double()
    for training in (False, True):
        theirs.train(training), ours.train(training)
        (maps, answer), expected = ours(images), theirs(images)
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
        assert [tuple(m.shape) for m in maps] == [(3, w, s, s) for w, s in zip((64, 128, 256, 512), SIDES, strict=True)]
        nnf.cross_entropy(answer, targets).backward()
        nnf.cross_entropy(expected, targets).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4)
    after = [value for name, value in theirs.state_dict().items() if "num_batches_tracked" not in name]
    for (name, mine), value in zip(ours.state_dict().items(), after, strict=True):
        torch.testing.assert_close(mine, value, rtol=1e-4, atol=1e-5, msg=name)


def test_the_defaults_are_resnet_34() -> None:
    with torch.device("meta"):
        network = ResidualClassifier()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) + 1 == 34  # and the readout
    assert sum(p.numel() for p in network.parameters()) == 21_328_292


@pytest.mark.parametrize("own_items", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("by_losses", [True, False])
def test_a_bundle_is_n_separate_networks(own_items: bool, training: bool, by_losses: bool) -> None:
    bundle = make().double().train(training)
    modules = [bundle.member(index) for index in range(3)]
    items = batch(3 if own_items else None)
    items = items._replace(inputs=items.inputs.double())
    weights = torch.tensor([1.0, -0.5, 3.0], dtype=torch.float64)
    before = {name: buffer.clone() for name, buffer in bundle.named_buffers()}
    if by_losses:
        losses = bundle.losses(items, criterion)
    else:
        seen = bundle(items)
        losses = criterion(seen.output, items.targets)
    (losses * weights).sum().backward()
    for index, module in enumerate(modules):
        assert module.training == training
        maps, answer = module(images_of(items, index))
        loss = nnf.cross_entropy(answer, items.targets[index] if own_items else items.targets)
        (weights[index] * loss).backward()
        torch.testing.assert_close(losses[index], loss)
        if not by_losses:
            torch.testing.assert_close(seen.output[index], answer)
            for stage, own in zip(seen.hidden, maps, strict=True):
                torch.testing.assert_close(stage[index], own)
    with torch.no_grad():
        after = stack_of(modules, lambda module, name: module.state_dict()[name])
    assert bundle.state_dict().keys() == after.keys()
    for name, tensor in bundle.state_dict().items():
        torch.testing.assert_close(tensor, after[name], msg=name)
    for name, buffer in bundle.named_buffers():
        assert torch.equal(buffer, before[name]) != training, name
    for name, parameter in bundle.named_parameters():
        grads = torch.stack([module.get_parameter(name.removeprefix("network.")).grad for module in modules])  # type: ignore[misc]
        torch.testing.assert_close(parameter.grad, grads, msg=name)


@pytest.mark.parametrize("own_items", [True, False])
def test_selected_members_answer_as_they_do_among_all(own_items: bool) -> None:
    bundle, select = make(4).eval(), torch.tensor([3, 1])
    items = batch(2 if own_items else None)
    everyone = TaskBatch(torch.zeros(4, 5, 3, 32, 32), torch.zeros(4, 5), torch.ones(4, 5)) if own_items else items
    if own_items:
        everyone.inputs[select] = items.inputs
    full, some = bundle(everyone), bundle(items, select)
    assert torch.equal(some.output, full.output[select])
    for stage, width, side, chosen in zip(full.hidden, WIDTHS, SIDES, some.hidden, strict=True):
        assert chosen.shape == (2, 5, width, side, side)
        assert torch.equal(chosen, stage[select])
    assert torch.equal(bundle.answers(items, select), some.output)
    assert bundle.hidden_sizes == tuple(WIDTHS)
    assert bundle.reads == "images"


def test_positions_become_steps_without_a_copy() -> None:
    seen = make().eval()(batch(None))
    for stage, steps in zip(seen.hidden, seen.in_steps().hidden, strict=True):
        assert steps.data_ptr() == stage.data_ptr()
        assert torch.equal(steps[1, 2, 5], stage.flatten(3)[1, 2, :, 5])


def test_the_readout_answers_for_the_last_stage_and_for_others() -> None:
    bundle = make().eval()
    seen = bundle(batch(None))
    torch.testing.assert_close(bundle.read_out(seen.hidden[-1]), seen.output)
    select = torch.tensor([2, 0])
    torch.testing.assert_close(bundle.read_out(seen.hidden[-1][select], select), seen.output[select])
    mean = seen.hidden[-1].mean((3, 4), keepdim=True)  # the readout sees the mean over positions alone
    torch.testing.assert_close(bundle.read_out(mean), seen.output)


def test_a_member_starts_from_its_seed_alone_and_nothing_else_is_drawn() -> None:
    state = torch.random.get_rng_state()
    bundle, other = ResidualBundle(3, WIDTHS, DEPTHS, CLASSES), ResidualBundle(2, WIDTHS, DEPTHS, CLASSES)
    bundle.initialise([5, 8, 9])
    other.initialise([8, 2])
    bundle.member(0)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, tensor in bundle.state_dict().items():
        assert torch.equal(tensor[1], other.state_dict()[name][0]), name
        assert torch.equal(tensor[0], tensor[1]) == (("norm" in name) or ("shortcut.1" in name)), name


def test_fresh_weights_are_he_s_and_norms_begin_as_they_are() -> None:
    network = ResidualClassifier([64, 64, 128, 128], [2, 1, 1, 1], 10)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.out_channels * part.kernel_size[0] ** 2
            assert float(part.weight.detach().var()) * fan_out == pytest.approx(2.0, rel=0.1)
    norms = [p for name, p in network.named_parameters() if p.dim() == 1 and name.endswith("weight")]
    # That of a block's last one too: with 0 a shallow network learns several times more slowly.
    assert set(torch.cat(norms).tolist()) == {1.0}


def test_join_take_and_mean_hold_running_statistics_too() -> None:
    first, second = make(2), make(1, seed=7)
    joined = first.join([second])
    taken, average = joined.take([2, 0]), joined.averaged([0.5, 0.25, 0.25])
    for name, tensor in joined.state_dict().items():
        assert tensor.dtype == torch.float32
        assert tensor.shape[0] == 3
        assert torch.equal(tensor[:2], first.state_dict()[name])
        assert torch.equal(taken.state_dict()[name], tensor[[2, 0]])
        expected = 0.5 * tensor[0] + 0.25 * tensor[1] + 0.25 * tensor[2]
        torch.testing.assert_close(average.state_dict()[name][0], expected)
    assert not average.training


def population(bundle: ResidualBundle) -> Population:
    members = [Member(f"m-{i}", "g", "images", i, policy="flip_crop") for i in range(bundle.count)]
    return Population([bundle], [members], class_names={"images": tuple("abcdefg")})


def test_a_population_folder_gives_back_every_bit(tmp_path: Path) -> None:
    saved = population(make())
    saved.save(tmp_path / "p")
    read = Population.load(tmp_path / "p")
    assert read.members == saved.members
    assert read.bundles[0].settings == {"widths": WIDTHS, "depths": DEPTHS, "classes": CLASSES}
    for name, tensor in saved.bundles[0].state_dict().items():
        assert torch.equal(tensor, read.bundles[0].state_dict()[name]), name
    items = {"images": batch(None)}
    (one,), (other,) = saved.run(items), read.run(items)
    assert one is not None
    assert other is not None
    assert torch.equal(one.output, other.output)
    joined = Population.join([read, saved.with_members([[Member(f"x-{i}", "g", "images") for i in range(3)]])])
    assert [bundle.count for bundle in joined.bundles] == [6]


def test_a_manifest_that_asks_for_a_monster_is_refused_at_once(tmp_path: Path) -> None:
    population(make(1)).save(tmp_path / "p")
    manifest = tmp_path / "p" / "manifest.json"
    text = manifest.read_text()
    start, end = text.index('"depths": ['), text.index("]", text.index('"depths": [')) + 1
    manifest.write_text(text[:start] + '"depths": [1, 1000000000, 1, 1]' + text[end:])
    with pytest.raises(PopulationError, match=r"depths is \[1, 1000000000, 1, 1\]; it has to be 4 whole numbers"):
        Population.load(tmp_path / "p")


def test_a_frozen_population_keeps_nothing_and_never_moves() -> None:
    bundle = make()
    frozen = population(bundle)
    surrounding = nn.ModuleDict({"population": bundle})
    surrounding.train()
    before = {name: tensor.clone() for name, tensor in bundle.state_dict().items()}
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        (seen,) = frozen.run({"images": batch(None)})
        bundle.losses(batch(None), criterion)
    assert seen is not None
    assert not kept
    assert all(part.grad_fn is None and not part.requires_grad for part in (*seen.hidden, seen.output))
    assert not bundle.training
    for name, tensor in bundle.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    bundle.requires_grad_(True)
    surrounding.train()
    assert bundle.training  # thawed, it trains again


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_memory_in_training_does_not_grow_with_the_members(precision: torch.dtype) -> None:
    def peak(count: int, in_turn: bool) -> int:
        """Most bytes of activations (their leading size is that of the batch) that graphs kept at one time."""
        bundle, items = make(count).train(), batch(count, items=9)
        alive: Counter[tuple[int, int]] = Counter()  # address and bytes -> how often graphs hold it
        most = 0

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                nonlocal most
                self.tensor = tensor
                self.key = (tensor.data_ptr(), tensor.nbytes if tensor.dim() == 4 and len(tensor) == 9 else 0)
                alive[self.key] += 1
                most = max(most, sum(size for (_, size), times in alive.items() if times))

            def __del__(self) -> None:
                alive[self.key] -= 1

        with (
            torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16),
        ):
            losses = bundle.losses(items, criterion) if in_turn else criterion(bundle.answers(items), items.targets)
            most_in_forward = most
        losses.sum().backward()
        assert losses.dtype == torch.float32
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in bundle.parameters())
        return most_in_forward

    # The count of bytes in the docstring: four maps per block (both convolutions and both activations), two of the
    # stem, a shortcut's input and output, and the images.
    pixels = [side**2 for side in SIDES]
    blocks = sum(4 * width * depth * area for width, depth, area in zip(WIDTHS, DEPTHS, pixels, strict=True))
    edges = zip(WIDTHS, WIDTHS[1:], pixels[1:], strict=False)  # a shortcut reads some positions, and writes as many
    shortcuts = sum((before + width) * area for before, width, area in edges)
    floats = blocks + (2 * WIDTHS[0] + 3) * pixels[0] + shortcuts
    one = peak(1, in_turn=True)
    assert one == 9 * floats * precision.itemsize
    assert peak(4, in_turn=True) == one
    assert peak(4, in_turn=False) == 4 * one


@pytest.mark.parametrize(
    "shape", [(5, 3, 28, 28), (5, 1, 32, 32), (3, 32, 32), (5, 32, 32, 3), (2, 5, 3, 64, 64), (5, 9)]
)
def test_images_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    items = TaskBatch(torch.zeros(shape), torch.zeros(shape[:1]), torch.ones(shape[:1]))
    match = r"A residual network reads images \[..., 3, 32, 32\], and was given \[" + str(shape[0])
    for look in (make(2), make(2).answers, lambda items: make(2).losses(items, criterion)):
        with pytest.raises(ValueError, match=match):
            look(items)
    with pytest.raises(ValueError, match=match):
        ResidualClassifier(WIDTHS, DEPTHS)(items.inputs)


def test_items_for_other_members_are_refused() -> None:
    with pytest.raises(ValueError, match="3 networks were given images for 2; each needs its own"):
        make(3)(batch(2))


@pytest.mark.parametrize(
    ("widths", "depths", "match"),
    [
        ([4, 6, 8], DEPTHS, r"widths is \[4, 6, 8\]; it has to be 4 whole numbers from 1 to"),
        (WIDTHS, [1, 1, 1, 1, 1], r"depths is \[1, 1, 1, 1, 1\]"),
        (WIDTHS, [1, 0, 1, 1], r"depths is \[1, 0, 1, 1\]"),
        ([4, 6.5, 8, 9], DEPTHS, r"widths is \[4, 6.5, 8, 9\]"),
    ],
)
def test_stages_that_cannot_be_built_are_refused(widths: list[int], depths: list[int], match: str) -> None:
    for build in (ResidualClassifier, lambda *sizes: ResidualBundle(2, *sizes)):
        with pytest.raises(ValueError, match=match):
            build(widths, depths, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("own_items", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_device_gives_the_same_answers_gradients_and_statistics(own_items: bool, training: bool) -> None:
    """In float64: in float32 cuDNN takes the numbers to 11 bits."""
    here = make().double().train(training)
    there = here.take(range(3)).requires_grad_(True).to("cuda").train(training)
    items = batch(3 if own_items else None)
    items = items._replace(inputs=items.inputs.double())
    moved = TaskBatch(*(part.to("cuda") for part in items))
    select, chosen = torch.tensor([2, 0]), items
    if own_items:
        chosen = TaskBatch(*(part[select] for part in items))
    with torch.no_grad():
        expected = here(chosen, select)
        found = there(TaskBatch(*(part.to("cuda") for part in chosen)), select.to("cuda"))
        answers = there.answers(moved)
        torch.testing.assert_close(answers.cpu(), here.answers(items))
        torch.testing.assert_close(there.read_out(found.hidden[-1], select.to("cuda")), found.output)
    for mine, theirs in zip((*found.hidden, found.output), (*expected.hidden, expected.output), strict=True):
        assert mine.is_cuda
        torch.testing.assert_close(mine.cpu(), theirs)
    weights = torch.tensor([1.0, -0.5, 3.0], dtype=torch.float64)
    losses, wanted = there.losses(moved, criterion), here.losses(items, criterion)
    (losses * weights.to("cuda")).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(losses.cpu(), wanted)
    for name, parameter in here.named_parameters():
        own = there.get_parameter(name).grad
        assert own is not None
        torch.testing.assert_close(own.cpu(), parameter.grad, msg=name)
    for name, buffer in here.named_buffers():
        torch.testing.assert_close(there.get_buffer(name).cpu(), buffer, msg=name)


@pytest.mark.gpu
def test_at_bf16_the_device_trains_about_alike() -> None:
    here = make()
    there = here.take(range(3)).requires_grad_(True).to("cuda").train()
    items = batch(3, items=16)
    with torch.autocast("cuda", torch.bfloat16):
        losses = there.losses(TaskBatch(*(part.to("cuda") for part in items)), criterion)
    losses.sum().backward()
    torch.testing.assert_close(losses.cpu(), here.train().losses(items, criterion), rtol=0.1, atol=0.1)
    for parameter in there.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.isfinite().all())
