"""Event files of a run in several lives read as those of one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dynamo.event_files import Caption, RunBoard, event_files


def read(folder: Path) -> list[tuple[int, float]]:
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars("a")]


def log(board: RunBoard, *steps: int) -> None:
    for step in steps:
        board.experiment.add_scalar("a", 10 * step, step)


def life(folder: Path, number: int, lengths: dict[str, int] | None = None) -> RunBoard:
    """A process that goes on from a checkpoint; its event file has a name of its own, as processes' have."""
    before = set(event_files(folder))
    board = RunBoard(str(folder))
    assert board.experiment is not None
    (mine,) = set(event_files(folder)) - before
    assert len(before) == number
    assert board.earlier == tuple(sorted(before))
    if lengths is not None:
        board.rewind(lengths)
        assert (folder / mine).exists()
    return board


def test_what_was_logged_after_the_checkpoint_is_taken_away(tmp_path: Path) -> None:
    first = life(tmp_path, 0)
    log(first, 0, 1)
    saved = first.lengths()
    log(first, 2, 3)
    first.experiment.flush()
    second = life(tmp_path, 1, saved)  # the first was killed
    log(second, 2)
    later = second.lengths()
    log(second, 3)
    second.experiment.flush()
    third = life(tmp_path, 2, later)
    log(third, 3, 4)
    third.experiment.flush()
    assert read(tmp_path) == [(step, 10.0 * step) for step in range(5)]


def test_a_file_that_began_after_the_checkpoint_goes(tmp_path: Path) -> None:
    first = life(tmp_path, 0)
    log(first, 0)
    saved = first.lengths()
    second = life(tmp_path, 1, saved)
    log(second, 1)  # killed before it wrote a checkpoint
    second.experiment.flush()
    third = life(tmp_path, 2, saved)
    log(third, 1)
    third.experiment.flush()
    assert read(tmp_path) == [(0, 0.0), (1, 10.0)]
    assert len(event_files(tmp_path)) == 2


def test_a_torn_end_does_not_matter(tmp_path: Path) -> None:
    first = life(tmp_path, 0)
    log(first, 0)
    saved = first.lengths()
    (file,) = event_files(tmp_path).values()
    with file.open("ab") as torn:
        torn.write(b"\x18\x00\x00\x00half of an event")
    second = life(tmp_path, 1, saved)
    log(second, 1)
    second.experiment.flush()
    assert read(tmp_path) == [(0, 0.0), (1, 10.0)]


def test_a_file_that_lost_its_end_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = life(tmp_path, 0)
    log(first, 0)
    (name,) = saved = first.lengths()
    with caplog.at_level(logging.WARNING):
        life(tmp_path, 1, {name: saved[name] + 7})
    assert f"{name} has lost 7 bytes since the checkpoint" in caplog.text


def test_the_first_entry_of_a_tag_has_its_caption_in_every_life(tmp_path: Path) -> None:
    def caption(tag: str) -> Caption | None:
        return Caption("Title", f"of *{tag}*") if tag == "a" else None

    for number in range(2):
        board = RunBoard(str(tmp_path / str(number)), caption)
        log(board, 0, 1)
        board.experiment.add_scalar("b", 1.0, 0)
        board.experiment.close()  # as Lightning does at the end of fit
        log(board, 2)
        board.experiment.flush()
        events = EventAccumulator(str(tmp_path / str(number)))
        events.Reload()
        told = events.SummaryMetadata("a")
        assert (told.display_name, told.summary_description) == ("Title", "of *a*")
        assert [event.step for event in events.Scalars("a")] == [0, 1, 2]
        with pytest.raises(KeyError):
            events.SummaryMetadata("b")


def test_a_run_that_goes_on_knows_that_it_began_before(tmp_path: Path) -> None:
    first = life(tmp_path, 0)
    assert not first.continued
    log(first, 0)
    saved = first.lengths()
    assert life(tmp_path, 1, saved).continued
    assert not life(tmp_path, 2, {}).continued  # nothing is left of what was before


def test_the_epoch_is_no_curve_and_measured_weights_have_their_step(tmp_path: Path) -> None:
    board = RunBoard(str(tmp_path))
    board.log_metrics({"a": 1.0, "epoch": 0}, step=3)
    board.measured_at = 8
    board.log_metrics({"a": 2.0, "epoch": 0}, step=0)
    board.experiment.flush()
    assert read(tmp_path) == [(3, 1.0), (8, 2.0)]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["a"]
