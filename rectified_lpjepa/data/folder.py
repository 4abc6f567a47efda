"""Folders of image files, decoded on the host: ``train/<class>/…`` and ``val/<class>/…``."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from typing_extensions import override

from rectified_lpjepa.data.augmentations import Augmentation
from rectified_lpjepa.data.batches import UNLABELLED, Split
from rectified_lpjepa.data.image_files import FolderImages
from rectified_lpjepa.data.listing import class_folders, list_classes, list_images
from rectified_lpjepa.data.module import FINGERPRINT_LENGTH
from rectified_lpjepa.data.prepared import PreparedFolder
from rectified_lpjepa.data.rgb import IMAGENET_MEAN, IMAGENET_STD, RGBDataModule

EXPECTED_TREE = (
    "Give as `--data.root` the folder that holds train/<class>/ and val/<class>/ with the images of each class. "
    "ILSVRC-2012 must be requested from image-net.org and unpacked to train/<wnid>/ and val/<wnid>/."
)
"""What to do about missing folders."""


class ImageFolderDataModule(RGBDataModule):
    """Image files in ``root/train/<class>/`` and ``root/val/<class>/``, decoded while training.

    Classes are the folders of ``train`` in the order of their names. Images that lie directly in ``train`` and ``val``
    are unlabelled. Training crops are cut on the host and leave it as bytes; evaluation resizes the shorter side to
    256/224 of ``image_size`` and takes the central square.

    Args:
        root: folder that holds ``train`` and ``val``.
        image_size: side of the views, and of evaluation images, in pixels.
        augmentation: the recipe of the views. By default every second one is blurred.
        num_workers: processes that decode images for each training process; 0 decodes in the training process itself.
        mean: mean of each channel, for images in [0, 1]; by default ImageNet's.
        std: standard deviation of each channel, for images in [0, 1]; by default ImageNet's.
        **kwargs: further arguments of :class:`~rectified_lpjepa.data.TwoViewDataModule`.
    """

    _folders: ClassVar[dict[Split, str]] = {"train": "train", "test": "val"}

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        augmentation: Augmentation = Augmentation(blur=0.5),
        num_workers: int = 8,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size, augmentation, num_workers=num_workers, **kwargs)
        self.root = Path(root)
        self._mean, self._std = mean, std

    @property
    @override
    def num_classes(self) -> int | None:
        """Number of class folders in ``train``; None for unlabelled images."""
        return len(self.classes) or None

    @cached_property
    def classes(self) -> list[str]:
        """Names of the class folders in the order of their labels; empty for unlabelled images."""
        return class_folders(self._folder("train"))

    @property
    @override
    def fingerprint(self) -> str | None:
        """Beginning of the SHA-256 of both splits' :meth:`manifest`: the names of the files, not their content.

        A folder made by ``rectified-lpjepa prepare`` has the names of another one, so there its content counts, too.
        """
        manifests = f"{self.manifest('train')}\n{self.manifest('test')}\n"
        if self.prepared is not None:
            manifests += f"{self.prepared.sha256}\n"
        return hashlib.sha256(manifests.encode()).hexdigest()[:FINGERPRINT_LENGTH]

    @cached_property
    def prepared(self) -> PreparedFolder | None:
        """The record of a folder made by ``rectified-lpjepa prepare``; None for others.

        Raises:
            ValueError: the folder is not complete.
        """
        prepared = PreparedFolder.read(self.root)
        if prepared is not None and prepared.sha256 is None:
            raise ValueError(
                f"{self.root.absolute()} is not complete: `rectified-lpjepa prepare` was stopped, or found damaged "
                "images. Run the same command again until it says that all images are verified."
            )
        return prepared

    @override
    def facts(self) -> dict[str, str | int]:
        """Return the facts of any data set, and how the images were prepared, if they were."""
        return super().facts() | ({} if self.prepared is None else {"prepared": self.prepared.summary()})

    def manifest(self, split: Split) -> str:
        """Identify the files of a split by name, without reading them.

        Args:
            split: which one.

        Returns:
            SHA-256, in hexadecimal, of the sorted paths relative to the split's folder, one a line.
        """
        images = self.images(split)
        assert isinstance(images, FolderImages)
        paths = sorted(Path(path).as_posix() for path in images.paths())
        return hashlib.sha256(b"".join(os.fsencode(path) + b"\n" for path in paths)).hexdigest()

    def _folder(self, split: Split) -> Path:
        folder = self.root / self._folders[split]
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder.absolute()}. {EXPECTED_TREE}")
        return folder

    def files(self, split: Split) -> dict[str, list[str]]:
        """List the image files of each class, sorted, as paths relative to the split's folder.

        Args:
            split: which one.

        Returns:
            Files by class, in the order of the labels; under the name ``"."`` for unlabelled images.

        Raises:
            FileNotFoundError: the folder of the split or of a class does not exist.
            ValueError: a folder has no images, the classes of ``val`` are not classes of ``train``, or images lie
                outside the class folders.
        """
        folder = self._folder(split)
        found = class_folders(folder)
        if unknown := sorted(set(found) - set(self.classes)):
            raise ValueError(f"{folder} has the classes {unknown}, which {self._folder('train')} does not have.")
        loose = list_images(folder, recursive=False)
        if self.classes and loose:
            raise ValueError(
                f"{folder} has images outside the class folders, such as {loose[0]}. Move the images into the "
                "folders of their classes, or away."
            )
        if self.classes and not found:
            raise ValueError(f"{folder} has no class folders, but {self._folder('train')} has. Expected one a class.")
        return list_classes(folder, found or ["."])

    @override
    def load(self, split: Split) -> FolderImages:
        """List the files of a split, see :meth:`prepared` and :meth:`files`."""
        _ = self.prepared  # refuses a folder that is not complete
        files = self.files(split)
        number = {name: label for label, name in enumerate(self.classes)}
        labels = [number.get(name, UNLABELLED) for name, names in files.items() for _ in names]
        names = [file for names in files.values() for file in names]
        return FolderImages(self._folder(split), names, torch.tensor(labels, dtype=torch.int64), self.image_size)


class UnsplitFolderDataModule(ImageFolderDataModule):
    """Image files in ``root/<class>/``, as ImageNet-R and ObjectNet come: the test split is the whole folder.

    There is no training split, since it would hold the images that are tested on.
    """

    _folders: ClassVar[dict[Split, str]] = {"train": ".", "test": "."}  # the names of the classes are those of train

    @property
    @override
    def fingerprint(self) -> str:
        """Beginning of the SHA-256 of the :meth:`manifest` of the folder: the names of the files."""
        return self.manifest("test")[:FINGERPRINT_LENGTH]

    @override
    def load(self, split: Split) -> FolderImages:
        """List the files of the test split.

        Raises:
            ValueError: the training split is asked for.
        """
        if split == "train":
            raise ValueError(
                f"{self.root.absolute()} has no folder train, so that all of its images are test images and none can "
                "be trained on. HINT: split the folder into train/<class>/ and val/<class>/."
            )
        return super().load(split)
