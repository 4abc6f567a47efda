"""Further data sets that an evaluation looks at, under short names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.evaluation.features import Subject


def open_sets(subject: Subject, names: Sequence[str], taken: Collection[str]) -> dict[str, TwoViewDataModule]:
    """Open data sets for a subject.

    Args:
        subject: what is evaluated.
        names: as :meth:`~rectified_lpjepa.evaluation.features.Subject.open` takes them.
        taken: names that are in use for something else.

    Returns:
        The data sets by the names of their files or folders, without what lies above them.

    Raises:
        ValueError: two sets have one name, or one has a name that is taken.
    """
    short = [Path(name).name.removesuffix(".npz") for name in names]
    for name in short:
        if short.count(name) > 1 or name in taken:
            raise ValueError(
                f"The data sets {', '.join(names)} need names of their own, and {name!r} is that of two of them, or of "
                "something else that is measured here. HINT: rename the file or the folder."
            )
    return {name: subject.open(path) for name, path in zip(short, names, strict=True)}
