"""ImageNet-100: the hundred classes of the CMC list (Tian et al., 2019) out of ILSVRC-2012."""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files as package_files
from typing import Any, ClassVar

from typing_extensions import override

from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.data.folder import EXPECTED_TREE, ImageFolderDataModule
from rectified_lpjepa.data.listing import list_classes
from rectified_lpjepa.data.module import FINGERPRINT_LENGTH


def imagenet100_classes() -> list[str]:
    """Return the WordNet identifiers of the classes, sorted: a label is the place of a class in this list."""
    text = (package_files("rectified_lpjepa.data") / "imagenet100_classes.txt").read_text(encoding="ascii")
    return sorted(text.split())


class ImageNet100DataModule(ImageFolderDataModule):
    """The hundred classes of the CMC list out of an ILSVRC-2012 tree, ``root/train/<wnid>/`` and ``root/val/<wnid>/``.

    Other classes may lie beside them. Labels follow the sorted identifiers, as torchvision's ImageFolder would give
    them to a tree of these classes alone.

    Args:
        root: folder that holds ``train`` and ``val``.
        verify_counts: insist on 126,689 training and 5,000 validation images.
        **kwargs: further arguments of :class:`~rectified_lpjepa.data.ImageFolderDataModule`.
    """

    counts: ClassVar[dict[Split, int]] = {"train": 126_689, "test": 5_000}

    def __init__(self, root: str, verify_counts: bool = True, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.verify_counts = verify_counts

    @cached_property
    def classes(self) -> list[str]:
        """The hundred WordNet identifiers, sorted; known without the data."""
        return imagenet100_classes()

    @property
    @override
    def fingerprint(self) -> str | None:
        """That of a folder; with verified counts, as the list of classes and the counts say it all, that of no names.

        Then it is None, or the beginning of the content's SHA-256 for a folder made by ``rectified-lpjepa prepare``.
        """
        if not self.verify_counts:
            return super().fingerprint
        return None if self.prepared is None else self.prepared.fingerprint

    @override
    def facts(self) -> dict[str, str | int]:
        """Return the facts of any data set, and the beginning of both splits' manifests."""
        manifests = {self._folders[split]: self.manifest(split) for split in self._folders}
        listed = ", ".join(f"{folder} {manifest[:FINGERPRINT_LENGTH]}" for folder, manifest in manifests.items())
        return super().facts() | {"manifest": listed}

    @override
    def files(self, split: Split) -> dict[str, list[str]]:
        """List the image files of each class, sorted, as paths relative to the split's folder.

        Args:
            split: which one.

        Returns:
            Files by class, in the order of the labels.

        Raises:
            FileNotFoundError: the folder of the split or of a class does not exist.
            ValueError: a folder has no images, or the number of images is not ImageNet-100's (with ``verify_counts``).
        """
        folder = self._folder(split)
        if missing := [name for name in self.classes if not (folder / name).is_dir()]:
            raise FileNotFoundError(
                f"{folder.absolute()} lacks {missing[0]} ({len(missing)} of the {len(self.classes)} classes are "
                f"missing). {EXPECTED_TREE} "
                "Validation images that lie in a single folder must first be moved into folders of their classes."
            )
        files = list_classes(folder, self.classes)
        found = sum(map(len, files.values()))
        if self.verify_counts and found != self.counts[split]:
            raise ValueError(
                f"{folder} has {found:,} images of the ImageNet-100 classes, expected {self.counts[split]:,}. Complete "
                "the data set, or set `verify_counts` to false to go on with these."
            )
        return files
