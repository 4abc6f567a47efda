"""Whether two runs left the same numbers behind."""

from __future__ import annotations

from pathlib import Path

from identical import assert_identical
from run_files import checkpoint, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def assert_same_run(one: Path, other: Path) -> None:
    """Compare what two runs ended with, and everything in their tables."""
    ends = [checkpoint(directory) for directory in (one, other)]
    for end in ends:
        end["callbacks"] = {name: end["callbacks"][name] for name in ("FigureWriter",) if name in end["callbacks"]}
    assert_identical(*ends)
    assert rows(one) == rows(other)


def assert_same_boards(one: Path, other: Path) -> None:
    """Compare the curves in TensorBoard; it sorts the files of starts within one second of one process wrongly."""
    boards = [EventAccumulator(str(directory / "tensorboard")).Reload() for directory in (one, other)]
    tags = boards[0].Tags()["scalars"]
    assert tags == boards[1].Tags()["scalars"]
    assert "train/loss" in tags
    for tag in tags:
        one_curve, other_curve = ([(event.step, event.value) for event in board.Scalars(tag)] for board in boards)
        assert one_curve == other_curve, tag
