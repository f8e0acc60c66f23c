"""The members of a step are drawn fairly, and by the step alone."""

from __future__ import annotations

import torch

from dynamo.meta.draw import drawn_members


def test_so_many_different_members_in_order_and_inside_their_bundles() -> None:
    counts = [3, 1, 4]
    for step in range(50):
        parts = drawn_members(counts, 5, seed=2, step=step)
        assert sum(len(part) for part in parts) == 5
        for part, count in zip(parts, counts, strict=True):
            assert torch.equal(part, part.unique())  # ascending, and each once
            assert part.numel() == 0 or 0 <= int(part.min()) <= int(part.max()) < count


def test_the_step_and_the_seed_decide_alone() -> None:
    def drawn(seed: int, step: int) -> list[list[int]]:
        return [part.tolist() for part in drawn_members([6, 6], 4, seed, step)]

    assert drawn(0, 7) == drawn(0, 7)
    assert len({str(drawn(0, step)) for step in range(20)}) > 15
    assert drawn(0, 7) != drawn(1, 7)


def test_every_member_has_its_turn_as_often() -> None:
    counts, times = [2, 3], torch.zeros(5)
    for step in range(2000):
        first, second = drawn_members(counts, 2, seed=0, step=step)
        times[torch.cat([first, second + 2])] += 1
    assert (times / 2000 - 0.4).abs().max() < 0.05  # 4.5 standard deviations
