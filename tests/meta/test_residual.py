"""The residual meta-model: a working network at every theta, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from dynamo.meta import MetaTask, RecurrentMetaModel
from dynamo.meta.residual import IMAGES_AT_ONCE, ConditionalNorm, ResidualMetaModel, numbers_kept
from dynamo.population import Member, Population, PopulationError, ResidualBundle
from dynamo.population.base import Bundle
from dynamo.types import TaskBatch, Trajectory

Make = Callable[..., ResidualMetaModel]
P, B, D = 3, 5, 2
WIDTHS, DEPTHS = (4, 6, 8, 12), (1, 2, 1, 1)
N, ITEMS, CLASSES = 3, 6, 5  # of the populations that it emulates
W4, D4 = [4, 6, 8, 10], [1, 1, 1, 1]


@pytest.fixture
def make() -> Make:
    def build(**options: Any) -> ResidualMetaModel:  # noqa: ANN401
        torch.manual_seed(0)
        return ResidualMetaModel(
            0, {"a": 3, "b": 7}, D, **{"widths": WIDTHS, "depths": DEPTHS, "group_size": 3, **options}
        )

    return build


@pytest.fixture
def images() -> Tensor:
    return torch.randn(B, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def theta() -> Tensor:
    return torch.randn(P, D, generator=torch.Generator().manual_seed(2))


def slowly(network: ResidualMetaModel, theta: Tensor, image: Tensor) -> tuple[list[Tensor], Tensor]:
    """One point, one image, written out anew: four stages `[c, h, w]` and logits of task b."""

    def norm(own: nn.Module, maps: Tensor) -> Tensor:
        assert isinstance(own, ConditionalNorm)
        scale = 1 + own.scale.weight @ theta + own.scale.bias
        shift = own.shift.weight @ theta + own.shift.bias
        parts = []
        for part in maps.chunk(own.groups):
            parts.append((part - part.mean()) / (part.var(correction=0) + 1e-5).sqrt())
        return torch.cat(parts) * scale[:, None, None] + shift[:, None, None]

    maps = norm(network.stem_norm, nnf.conv2d(image[None], network.stem.weight, padding=1)[0]).clamp(min=0)
    hidden = []
    for stage in network.stages:
        for block in stage:  # type: ignore[attr-defined]
            stride = block.conv1.stride
            inner = norm(block.norm1, nnf.conv2d(maps[None], block.conv1.weight, stride=stride, padding=1)[0])
            inner = norm(block.norm2, nnf.conv2d(inner.clamp(min=0)[None], block.conv2.weight, padding=1)[0])
            if block.shortcut is not None:
                maps = norm(block.shortcut_norm, nnf.conv2d(maps[None], block.shortcut.weight, stride=stride)[0])
            maps = (inner + maps).clamp(min=0)
        hidden.append(maps)
    head = network.heads["b"]
    return hidden, head.weight @ maps.mean((1, 2)) + head.bias


def test_it_is_a_resnet_whose_norms_are_linear_in_theta(make: Make, images: Tensor, theta: Tensor) -> None:
    network = make()
    with torch.no_grad():
        for part in network.modules():  # biases that are not 0
            if isinstance(part, ConditionalNorm):
                part.scale.bias.uniform_(-0.3, 0.3)
                part.shift.bias.uniform_(-0.3, 0.3)
        found = network(theta, images, "b")
        assert [tuple(h.shape[2:]) for h in found.hidden] == [(4, 32, 32), (6, 16, 16), (8, 8, 8), (12, 4, 4)]
        for p, b in ((0, 0), (1, 4), (2, 2)):
            hidden, logits = slowly(network, theta[p], images[b])
            for stage, mine in enumerate(hidden):
                torch.testing.assert_close(found.hidden[stage][p, b], mine, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found.output[p, b], logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_an_image_is_answered_alike_in_any_company(make: Make, images: Tensor, theta: Tensor, training: bool) -> None:
    network = make().train(training)
    with torch.no_grad():
        together = network(theta, images, "a")
        alone = network(theta[1:2], images[3:4], "a")
    for many, one in zip([*together.hidden, together.output], [*alone.hidden, alone.output], strict=True):
        torch.testing.assert_close(many[1:2, 3:4], one, atol=1e-5, rtol=1e-4)


def test_batch_norm_the_control_depends_on_company_and_on_the_mode(make: Make, images: Tensor, theta: Tensor) -> None:
    network = make(normalisation="batch")
    with torch.no_grad():
        together = network(theta, images, "a").output[1, 3]
        alone = network(theta[1:2], images[3:4], "a").output[0, 0]
        assert not torch.allclose(together, alone, atol=1e-2)
        evaluated = network.eval()(theta, images, "a").output[1, 3]
        assert not torch.allclose(together, evaluated, atol=1e-2)
        torch.testing.assert_close(network(theta[1:2], images[3:4], "a").output[0, 0], evaluated, atol=1e-5, rtol=1e-4)


def test_batch_norm_takes_statistics_per_point_in_training_and_keeps_their_average() -> None:
    norm = ConditionalNorm(4, D, "batch", 2)
    maps = torch.randn(P * B, 4, 6, 6) * 3 + 1
    maps[:B] += 10.0
    flat = norm(maps, torch.zeros(P, D)).unflatten(0, (P, B)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(flat.mean(2), torch.zeros(P, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.var(2, correction=0), torch.ones(P, 4), atol=1e-4, rtol=0)
    own = maps.unflatten(0, (P, B))
    torch.testing.assert_close(norm.running_mean, 0.1 * own.mean((0, 1, 3, 4)))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * own.var((1, 3, 4), correction=0).mean(0))


def test_without_theta_all_points_are_one_network_and_theta_is_learnable_from_there(make: Make, images: Tensor) -> None:
    network, theta = make(), torch.zeros(P, D, requires_grad=True)
    found = network(theta, images, "a")
    torch.testing.assert_close(found.output[0], found.output[2])
    found.output.square().sum().backward()
    assert theta.grad is not None
    assert bool((theta.grad.abs().sum(1) > 0).all())


def test_answers_are_those_of_forward_in_parts_too(
    make: Make, images: Tensor, theta: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make()
    whole = network(theta, images, "b")  # with a graph: all points in one part
    prepared = network.prepare(images)
    torch.testing.assert_close(network.answers(theta, prepared, torch.ones(B), "b"), whole.output, atol=1e-5, rtol=1e-4)
    monkeypatch.setitem(IMAGES_AT_ONCE, "cpu", 2 * B)
    with torch.no_grad():
        parts = network(theta, images, "b")
    assert not network.answers(theta.double(), prepared, torch.ones(B), "b").requires_grad
    for mine, theirs in zip([*parts.hidden, parts.output], [*whole.hidden, whole.output], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network.answers(theta, prepared, torch.ones(B), "b"), whole.output, atol=1e-5, rtol=1e-4)


def test_group_sizes_divide_the_channels() -> None:
    assert [ConditionalNorm(12, D, "group", size).groups for size in (1, 5, 12, 100)] == [12, 3, 1, 1]
    assert ConditionalNorm(7, D, "group", 4).groups == 7


@pytest.mark.parametrize("shape", [(B, 3, 28, 28), (B, 1, 32, 32), (3, 32, 32), (2, B, 3, 32, 32)])
def test_images_of_another_size_are_refused(make: Make, theta: Tensor, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"all points read (the same )?images .*were given \["):
        make()(theta, torch.zeros(shape), "a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [4, 6]}, "depths is .*; it has to be 2 whole numbers"),
        ({"depths": [1, 0, 1, 1]}, "depths is .1, 0, 1, 1.; it has to be 4"),
        ({"group_size": 0}, "group_size is 0; it has to be at least 1"),
    ],
)
def test_an_option_out_of_range_is_named(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="reads images, the data module has words; use RecurrentMetaModel"):
        ResidualMetaModel(100, {"a": 2}, D)


def test_a_resnet_34_has_the_published_number_of_weights() -> None:
    network = ResidualMetaModel(0, {"a": 100}, D)
    norms = sum(p.numel() for m in network.modules() if isinstance(m, ConditionalNorm) for p in m.parameters())
    # torchvision's resnet34: 21,284,672 without its readout, 17,024 of them in norms and 9,408 in the 7x7 stem
    convolutions = 21_284_672 - 17_024 - 9_408 + 3 * 64 * 9
    assert sum(p.numel() for p in network.parameters()) - norms == convolutions + 512 * 100 + 100


def test_the_count_of_what_is_kept_holds(theta: Tensor, images: Tensor) -> None:
    widths, depths = [16, 32, 48, 64], [1, 2, 1, 1]
    network = ResidualMetaModel(0, {"a": 3}, D, widths, depths)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    for size, half in ((4, False), (2, True)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", enabled=half):
            output = network(theta, images, "a").output
        bytes_a_pair = sum(kept.values()) / (P * B)
        assert bytes_a_pair == pytest.approx(size * numbers_kept(widths, depths), rel=0.08)
        del output
    assert numbers_kept([64, 128, 256, 512], [3, 4, 6, 3]) == 3_014_656 + 64 * 256 + 128 * 64 + 256 * 16


class Planted(Bundle):
    """Networks at known points of a meta-model."""

    kind: ClassVar[str] = "planted"
    reads = "images"

    def __init__(self, source: ResidualMetaModel, theta: Tensor) -> None:
        super().__init__()
        self.count, self.source, self.theta = len(theta), source, theta

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        return self.source.positions

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    @classmethod
    def build(cls, count: int, settings: dict[str, Any]) -> Planted:
        raise NotImplementedError

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        return self.source.hidden_sizes

    @property
    def classes(self) -> int:
        return CLASSES

    def forward(self, batch: TaskBatch, select: Tensor | None = None) -> Trajectory:
        return self.source(self.theta if select is None else self.theta[select], batch.inputs, "images")

    def read_out(self, hidden: Tensor, select: Tensor | None = None) -> Tensor:
        return self.source.read_out(hidden, "images")

    def member(self, index: int) -> nn.Module:
        raise NotImplementedError


def network(vocab_size: int, classes: Mapping[str, int], dimensions: int) -> ResidualMetaModel:
    return ResidualMetaModel(vocab_size, classes, dimensions, W4, D4, group_size=4)


def items(count: int, seed: int = 0) -> dict[str, TaskBatch]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 32, 32, generator=generator)
    ones = torch.ones(count, dtype=torch.int64)
    return {"images": TaskBatch(images, torch.arange(count) % CLASSES, ones)}


@pytest.fixture
def population() -> Population:
    bundle = ResidualBundle(N, W4, D4, CLASSES)
    bundle.initialise(range(N))
    return Population([bundle], [[Member(f"r-{i}", "r", "images", i) for i in range(N)]])


def make_task(population: Population, **options: Any) -> MetaTask:  # noqa: ANN401
    torch.manual_seed(0)
    task = MetaTask(population, 0, **{"network": network, "dimensions": 2, **options})
    task.log = task.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment,misc]
    task.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return task


@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_the_loss_is_the_mean_over_members_and_stages(population: Population, distance: Literal["l2", "l1"]) -> None:
    task = make_task(population, output_weight=0.5, distance=distance)
    task.spread.uniform_(0.5, 2.0)
    nn.init.normal_(task.embedding.theta)
    batch = items(ITEMS)
    images, expected = batch["images"].inputs, []
    for n, member in enumerate(task.members):
        stages, logits = population.module(member.name)(images)
        emulator = task(task.theta[n : n + 1], images, "images")
        gaps = []
        for k, (mine, theirs) in enumerate(zip(emulator.hidden, stages, strict=True)):
            alignment = task.alignments[0][k]
            convolution = alignment.weight[n].T[:, :, None, None]
            gap = nnf.conv2d(mine[0], convolution, alignment.bias[n]) - theirs
            gaps.append((gap.square() if distance == "l2" else gap.abs()).mean() / task.spread[n, k])
        log_p, log_q = logits.log_softmax(-1), emulator.output[0].log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
        expected.append(sum(gaps) / 4 + 0.5 * kl)
    torch.testing.assert_close(task.training_step(batch, 0), torch.stack(expected).mean())


def test_both_sides_of_a_comparison_have_one_shape(population: Population) -> None:
    (found,) = make_task(population).compare(items(ITEMS), [torch.tensor([2, 0])])
    shapes = [(2, ITEMS, width, size, size) for width, size in zip(W4, (32, 16, 8, 4), strict=True)]
    assert [tuple(h.shape) for h in found.mapped] == [tuple(h.shape) for h in found.original.hidden] == shapes
    assert found.emulated.shape == found.original.output.shape == (2, ITEMS, CLASSES)
    assert found.original.hidden[0].grad_fn is None


def test_without_outputs_the_members_own_readouts_answer(population: Population) -> None:
    (found,) = make_task(population, output_weight=0.0).eval().compare(items(ITEMS))
    torch.testing.assert_close(found.emulated, population.bundles[0].read_out(found.mapped[-1]))


def test_planted_points_are_found_when_the_network_is_known() -> None:
    """From 0, where all start, theta alone moves to the points at which the population was made."""
    torch.manual_seed(3)
    source = network(0, {"images": CLASSES}, 2)
    planted = torch.tensor([[0.6, 0.0], [-0.5, 0.4], [0.1, -0.7], [0.0, 0.0]])
    members = [Member(f"p-{i}", "p", "images", i) for i in range(len(planted))]
    task = make_task(Population([Planted(source, planted)], [members]), alignment="identity")
    task.network.load_state_dict(source.state_dict())
    optimizer = torch.optim.Adam([task.embedding.theta], lr=0.1)
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 60)
        optimizer.zero_grad()
        task.training_step(items(8, seed=step), 0).backward()
        optimizer.step()
    torch.testing.assert_close(task.theta, planted, atol=0.02, rtol=0)


def test_a_meta_model_of_another_kind_is_named(population: Population) -> None:
    with pytest.raises(ValueError, match=r"RecurrentMetaModel reads 0 words .*for images, use ResidualMetaModel"):
        MetaTask(population, 0, network=RecurrentMetaModel)
    with pytest.raises(PopulationError, match="'r-0' reads images, the data module has words"):
        MetaTask(population, 100, network=network)


@pytest.mark.gpu
@pytest.mark.parametrize("normalisation", ["group", "batch"])
def test_the_device_gives_the_same_states_and_answers(
    make: Make, images: Tensor, theta: Tensor, normalisation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64: in float32 cuDNN takes the numbers to 11 bits."""
    here, there = (make(normalisation=normalisation).double().eval() for _ in range(2))
    there.to("cuda")
    images, theta = images.double(), theta.double()
    prepared, lengths = there.prepare(images.to("cuda")), torch.ones(B, device="cuda")
    expected = here(theta, images, "b")
    for at_once in (IMAGES_AT_ONCE["cuda"], 2 * B):  # in one part, and in two
        monkeypatch.setitem(IMAGES_AT_ONCE, "cuda", at_once)
        with torch.no_grad():
            found = there(theta.to("cuda"), images.to("cuda"), "b")
        for mine, theirs in zip([*found.hidden, found.output], [*expected.hidden, expected.output], strict=True):
            assert mine.is_cuda
            torch.testing.assert_close(mine.cpu(), theirs)
        answers = there.answers(theta.to("cuda"), prepared, lengths, "b")
        torch.testing.assert_close(answers.cpu(), expected.output)


@pytest.mark.gpu
@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_a_training_step_on_the_device_is_finite_at_bf16(population: Population, distance: Literal["l2", "l1"]) -> None:
    task, batch = make_task(population, distance=distance), items(ITEMS)
    nn.init.normal_(task.embedding.theta)
    with torch.no_grad():
        expected = task.training_step(batch, 0)
    task.to("cuda")
    population.to("cuda")  # no part of the task
    moved = {name: TaskBatch(*(values.to("cuda") for values in part)) for name, part in batch.items()}
    with torch.autocast("cuda", torch.bfloat16):
        loss = task.training_step(moved, 0)
    loss.backward()
    assert loss.is_cuda
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach().cpu(), expected, rtol=0.1, atol=0.05)
    for name, parameter in task.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
