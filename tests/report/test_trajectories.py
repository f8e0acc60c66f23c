"""An original's states are brought into the plane by the inverse of V_n; moments are shares of an item's real steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from datamodules import DigitsDataModule
from dynamo.analyze.run import FinishedRun
from dynamo.meta import MetaTask, ResidualMetaModel
from dynamo.population import Member, Population, ResidualBundle
from dynamo.report import trajectories as module
from dynamo.report.trajectories import MOMENTS, Courses, read_back, trajectories
from dynamo.runs import RunFolder
from dynamo.types import UserError


def test_reading_back_inverts_an_affine_map() -> None:
    weight, bias, plane = torch.randn(2, 5).double(), torch.randn(5).double(), torch.randn(2, 2).double()
    states, others = torch.randn(4, 7, 2).double(), torch.randn(3, 7, 2).double()
    found = read_back(states @ weight + bias, states @ plane, others @ weight + bias)
    torch.testing.assert_close(found, others @ plane)


def test_what_no_emulated_state_has_does_not_move_the_point() -> None:
    weight, plane, states = torch.randn(2, 5).double(), torch.randn(2, 2).double(), torch.randn(30, 2).double()
    foreign = torch.linalg.svd(weight).Vh[2:]  # orthogonal to all that V_n can say
    found = read_back(states @ weight, states @ plane, states @ weight + torch.randn(30, 3).double() @ foreign)
    torch.testing.assert_close(found, states @ plane)


def test_a_constant_emulator_is_a_point() -> None:
    found = read_back(torch.ones(4, 3).double(), torch.full((4, 2), 2.0).double(), torch.randn(5, 3).double())
    torch.testing.assert_close(found, torch.full((5, 2), 2.0).double())


def test_moments_are_shares_of_the_real_steps() -> None:
    steps = torch.arange(9.0).view(1, 1, 9, 1).repeat(2, 3, 1, 4)
    lengths = torch.tensor([9, 5, 1])
    for item, length in enumerate(lengths.tolist()):
        steps[:, item, length:] = 1e6  # padding
    found = module._moments(steps, lengths)
    assert found.shape == (2, 3, MOMENTS, 4)
    for item, length in enumerate(lengths.tolist()):
        expected = torch.linspace(0, length - 1, MOMENTS, dtype=torch.float64)
        torch.testing.assert_close(found[1, item, :, 2], expected)


def test_a_perfect_emulator_goes_where_its_original_goes(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = FinishedRun.load(run, "cpu")
    seen = module._of_members

    def perfect(*words: object) -> tuple[torch.Tensor, ...]:
        meta, mapped, _ = seen(*words)  # type: ignore[arg-type]
        return meta, mapped, mapped

    before = trajectories(finished)
    monkeypatch.setattr(module, "_of_members", perfect)
    found = trajectories(finished)
    assert isinstance(found, Courses)
    assert isinstance(before, Courses)
    assert len(found.members) == len(finished.task.members)
    for own, other in zip(found.members, before.members, strict=True):
        assert [course.label for course in own] == ["negative", "positive"]
        for course, imperfect in zip(own, other, strict=True):
            assert course.emulator.shape == (MOMENTS, 2)
            assert torch.equal(course.emulator, imperfect.emulator)
            assert torch.equal(course.emulator, course.original)
            assert not torch.equal(imperfect.emulator, imperfect.original)


def test_without_data_there_are_none_and_nothing_is_fetched(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = FinishedRun.load(run, "cpu")
    monkeypatch.setattr(type(finished.data), "prepare_data", lambda self: pytest.fail("it would download"))

    def gone(self: object, stage: str | None = None) -> None:
        raise UserError("aclImdb is missing")

    monkeypatch.setattr(type(finished.data), "setup", gone)
    assert trajectories(finished) == "its data is not there (aclImdb is missing)"


def test_images_have_one_moment(tmp_path: Path) -> None:
    bundle = ResidualBundle(3, [4, 4, 4, 6], [1, 1, 1, 1], 10)
    bundle.initialise(range(3))
    members = [Member(f"net-{i}", "all", "digits") for i in range(3)]

    def network(vocab_size: int, classes: Mapping[str, int], dimensions: int) -> ResidualMetaModel:
        return ResidualMetaModel(vocab_size, classes, dimensions, [4, 4, 4, 5], [1, 1, 1, 1])

    task = MetaTask(Population([bundle], [members]), 0, network=network, dimensions=3).eval()
    found = trajectories(FinishedRun(RunFolder(tmp_path), task, DigitsDataModule(), torch.device("cpu")))
    assert isinstance(found, Courses)
    assert found.images
    assert [len(each) for each in found.members] == [10] * 3
    assert {tuple(course.emulator.shape) for course in found.members[0]} == {(1, 2)}
