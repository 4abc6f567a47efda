"""Which class of one data set is which of another.

Shape suffixes: C classes of the other data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from rectified_lpjepa.data import ImageFolderDataModule, TwoViewDataModule
from rectified_lpjepa.evaluation.features import FeatureSet, require_labels


class ClassMatching(NamedTuple):
    """Which class of a shifted data set is which of the subject's; C classes of the former."""

    own: Tensor
    """int64 (C,), the subject's label of each; −1 where its data have no such class."""
    unknown: list[str]
    """Names of the latter."""

    @property
    def common(self) -> Tensor:
        """The subject's labels of the classes that both have, int64, ascending."""
        labels: Tensor = self.own[self.own >= 0].unique()
        return labels

    def relabelled(self, features: FeatureSet, name: str) -> FeatureSet:
        """Give the samples of a set the subject's labels; those of unknown classes are left out."""
        require_labels(features, f"The accuracy on {name}")
        labels = self.own[features.labels]
        known = labels >= 0
        if not bool(known.any()):
            raise ValueError(f"{name} has no test sample of the classes that it shares with the subject's data.")
        return replace(features.rows(known), labels=labels[known])


def check_class_names(class_names: Mapping[str, str], others: Mapping[str, TwoViewDataModule]) -> None:
    """Refuse other names for folders that there are not.

    Args:
        class_names: what a folder is called in the subject's data.
        others: the data sets whose folders they are, by name.

    Raises:
        ValueError: a name is that of no folder.
    """
    folders = {class_ for data in others.values() if isinstance(data, ImageFolderDataModule) for class_ in data.classes}
    strange = [name for name in class_names if name not in folders]
    if strange:
        raise ValueError(
            f"`class_names` speaks of {', '.join(map(repr, strange[:5]))}, and no folder of "
            f"{', '.join(others) or 'a set'} has this name. HINT: its keys are the names of the folders, its values "
            "those of the subject's data."
        )


def match_classes(
    own: TwoViewDataModule, other: TwoViewDataModule, name: str, class_names: Mapping[str, str]
) -> ClassMatching:
    """Match the classes of two data sets: by the names of their folders, or, where neither has names, by their labels.

    Args:
        own: the subject's data, with labels.
        other: another data set.
        name: of the latter, for messages.
        class_names: what a folder of the latter is called in the subject's data, where it has another name there.

    Raises:
        ValueError: the other data have no labels, or no class in common; one of both alone has names; or, without
            names, they have different numbers of classes.
    """
    if other.num_classes is None:
        raise ValueError(f"{name} has no labels, so that there is no accuracy on it. HINT: name labelled data.")
    ours, theirs = (data.classes if isinstance(data, ImageFolderDataModule) else None for data in (own, other))
    if ours is None and theirs is None:
        if own.num_classes != other.num_classes:
            raise ValueError(
                f"{name} has {other.num_classes} classes and the subject's data have {own.num_classes}. Where classes "
                "have no names they must be the same. HINT: give both data sets as folders with class names."
            )
        return ClassMatching(torch.arange(own.num_classes or 0), [])
    if ours is None or theirs is None:
        unnamed = name if theirs is None else "the subject's data"
        raise ValueError(
            f"The classes of {name} cannot be matched: those of {unnamed} have no names. HINT: give both data sets as "
            "folders with class names, or both without, with the same labels."
        )
    number = {class_: label for label, class_ in enumerate(ours)}
    matching = ClassMatching(
        torch.tensor([number.get(class_names.get(class_, class_), -1) for class_ in theirs]),
        [class_ for class_ in theirs if class_names.get(class_, class_) not in number],
    )
    if not len(matching.common):
        raise ValueError(
            f"{name} and the subject's data have no class in common. Classes are matched by the names of their "
            f"folders, such as {theirs[0]!r} there and {ours[0]!r} here. HINT: `class_names` says which is which."
        )
    return matching
