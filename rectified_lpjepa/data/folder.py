"""Folders of image files, decoded on the host: ``train/<class>/…`` and ``val/<class>/…``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.data.augmentations import Augmentation, ViewParameters, crop_boxes
from rectified_lpjepa.data.batches import UNLABELLED, Split
from rectified_lpjepa.data.decoding import JPEG_SCALES, EncodedImage, read_image, scaled_box
from rectified_lpjepa.data.image_ops import crop_host
from rectified_lpjepa.data.module import FINGERPRINT_LENGTH, TwoViewDataModule
from rectified_lpjepa.data.prepared import PreparedFolder

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

EXPECTED_TREE = (
    "Give as `--data.root` the folder that holds train/<class>/ and val/<class>/ with the images of each class. "
    "ILSVRC-2012 must be requested from image-net.org and unpacked to train/<wnid>/ and val/<wnid>/."
)
"""What to do about missing folders."""

_RESIZE_RATIO = 256 / 224  # shorter side of the resized image to side of its centre crop, in evaluation

_AT_ONCE = 16  # files that are held in memory together, so that the crops of all of them are placed in one go


def resize_centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to 256/224 of ``size`` (bicubic, antialiased) and cut out the central square.

    Args:
        image: any image.
        size: side of the result in pixels; 224 gives the usual resize to 256.

    Returns:
        ``size`` × ``size`` pixels, the same as torchvision's Resize and CenterCrop.
    """
    shorter, short = round(size * _RESIZE_RATIO), min(image.size)
    width, height = (int(shorter * side / short) for side in image.size)  # cut off, not rounded, as torchvision does
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


class FolderImages:
    """Image files of one split, decoded when they are read.

    Args:
        root: folder of the split.
        files: paths relative to ``root``.
        labels: int64 (n,), -1 for samples without a label.
        image_size: side of evaluation images in pixels.
    """

    jpeg_scales: ClassVar[tuple[int, ...]] = JPEG_SCALES
    """By how much the sides of a JPEG may be divided in decoding."""

    def __init__(self, root: Path, files: list[str], labels: Tensor, image_size: int) -> None:
        self.root = root
        # One buffer: a list of a million strings would be copied, page by page, into each worker that looks at it.
        self._files = np.array([os.fsencode(file) for file in files])
        self.labels = labels
        self.image_size = image_size

    def paths(self) -> list[str]:
        """Return the paths relative to ``root``, one for each label."""
        return [os.fsdecode(file) for file in self._files]

    def _path(self, index: int) -> Path:
        return self.root / os.fsdecode(self._files[index])

    def read_training(self, indices: Tensor, views: Sequence[tuple[ViewParameters, int]]) -> list[Tensor]:
        """Cut the views out of images that are decoded no larger than each kind of them needs it.

        An image is decoded once, unless two kinds need it at different scales: what is cut for one does not depend on
        the others.

        Args:
            indices: int64 (B,).
            views: for each kind of views the parameters, of V views of these B samples, and the side S in pixels.

        Returns:
            For each kind the crops, uint8 (V, B, 3, S, S).
        """
        crops = [torch.empty(*kind.flip.shape, 3, size, size, dtype=torch.uint8) for kind, size in views]
        for start in range(0, len(indices), _AT_ONCE):
            images = [EncodedImage(self._path(index)) for index in indices[start : start + _AT_ONCE].tolist()]
            heights, widths = torch.tensor([(image.height, image.width) for image in images]).unbind(1)
            boxes = [crop_boxes(kind.rows(start, start + len(images)), heights, widths) for kind, _ in views]
            for row, image in enumerate(images):
                decoded: dict[int, Tensor] = {}
                for kind_boxes, kind_crops in zip(boxes, crops, strict=True):
                    self._cut(image, decoded, kind_boxes[:, row].tolist(), kind_crops[:, start + row])
        return crops

    def _cut(self, image: EncodedImage, decoded: dict[int, Tensor], boxes: list[list[int]], crops: Tensor) -> None:
        size = crops.shape[-1]
        scale = image.scale_for(boxes, size, self.jpeg_scales)
        if scale not in decoded:
            decoded[scale] = image.decode(scale)
        for crop, box in zip(crops, boxes, strict=True):
            crop.copy_(crop_host(decoded[scale], scaled_box(box, image, scale), size))

    def read_evaluation(self, indices: Tensor) -> Tensor:
        """Decode each image and take its centre: uint8 (B, 3, S, S)."""
        centres = np.empty((len(indices), self.image_size, self.image_size, 3), np.uint8)
        for row, index in enumerate(indices.tolist()):
            centres[row] = np.asarray(resize_centre_crop(read_image(self._path(index)), self.image_size))
        return torch.from_numpy(centres).permute(0, 3, 1, 2).contiguous()


class ImageFolderDataModule(TwoViewDataModule):
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
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
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

    @property
    @override
    def in_channels(self) -> int:
        """Red, green, blue; grey images are given three equal channels."""
        return 3

    @property
    @override
    def mean(self) -> list[float]:
        """Mean of each channel, as given."""
        return list(self._mean)

    @property
    @override
    def std(self) -> list[float]:
        """Standard deviation of each channel, as given."""
        return list(self._std)

    @cached_property
    def classes(self) -> list[str]:
        """Names of the class folders in the order of their labels; empty for unlabelled images."""
        return _class_folders(self._folder("train"))

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
        found = _class_folders(folder)
        if unknown := sorted(set(found) - set(self.classes)):
            raise ValueError(f"{folder} has the classes {unknown}, which {self._folder('train')} does not have.")
        loose = _image_files(folder, recursive=False)
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


def list_classes(folder: Path, names: list[str]) -> dict[str, list[str]]:
    """List the image files in subfolders, at any depth.

    Args:
        folder: the folder of a split.
        names: its subfolders.

    Returns:
        For each name the sorted paths, relative to ``folder``.

    Raises:
        ValueError: a subfolder has no images.
    """
    files = {name: _image_files(folder, name) for name in names}
    if empty := [name for name in names if not files[name]]:
        raise ValueError(
            f"The folder {folder / empty[0]} has no images ({len(empty)} such folder(s) in {folder}). Expected files "
            f"with the endings {' '.join(_EXTENSIONS)}; delete the folder if the class is not meant."
        )
    return files


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder: Path, name: str = ".", *, recursive: bool = True) -> list[str]:
    found = []
    for parent, subfolders, files in os.walk(folder / name, followlinks=True):
        subfolders[:] = [subfolder for subfolder in subfolders if recursive and not subfolder.startswith(".")]
        found += [os.path.relpath(os.path.join(parent, file), folder) for file in files if _is_image(file)]  # noqa: PTH118
    return sorted(found)


def _is_image(file: str) -> bool:
    return file.lower().endswith(_EXTENSIONS) and not file.startswith(".")
