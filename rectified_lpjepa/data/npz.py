"""Images and labels out of one ``.npz`` file of NumPy arrays, in the layout that Keras uses for its data sets."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib import format as npy
from typing_extensions import override

from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.data.images import InMemoryImages
from rectified_lpjepa.data.module import FINGERPRINT_LENGTH, TwoViewDataModule

_SPLITS: tuple[Split, Split] = ("train", "test")
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class NpzDataModule(TwoViewDataModule):
    """Arrays x_train, y_train, x_test, y_test of one ``.npz`` file, held in memory. Nothing is ever unpickled.

    ``x_*`` are images, uint8 (n, height, width), (n, height, width, 1) or (n, height, width, 3); ``y_*`` are labels,
    integers (n,) or (n, 1) from 0. Without ``y_train`` and ``y_test`` the images are unlabelled.

    Args:
        path: the ``.npz`` file.
        image_size: side of the views, and of evaluation images, in pixels; None for that of the stored images,
            which must then be square.
        num_classes: number of classes; None for one more than the largest label of ``y_train``.
        mean: mean of each channel, for images in [0, 1]; None to compute it from ``x_train``.
        std: standard deviation of each channel, for images in [0, 1]; None to compute it from ``x_train``.
        **kwargs: further arguments of :class:`~rectified_lpjepa.data.TwoViewDataModule`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or keys, shapes or labels are not as described.
        TypeError: an array has another data type than described.
    """

    def __init__(
        self,
        path: str,
        image_size: int | None = None,
        num_classes: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.path = Path(path)
        self._given_classes = num_classes
        super().__init__(self._stored_size() if image_size is None else image_size, **kwargs)
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}. It must be at least 1.")
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != self.in_channels:
                raise ValueError(
                    f"{name} has {len(values)} value(s), {values}, for the {self.in_channels} channel(s) of {path}."
                )
        self._given_mean, self._given_std = mean, std

    def _stored_size(self) -> int:
        height, width = self._headers["x_train"].shape[1:3]
        if height != width:
            raise ValueError(
                f"{self.path}: the images of x_train are not square ({height} × {width} pixels). Give "
                "`image_size`, the side of the views and evaluation images in pixels."
            )
        return height

    # --------------------------------------------------------------------------------- known from the headers

    @cached_property
    def _headers(self) -> dict[str, _Header]:
        """Shape and type of each array, read without its content, and checked."""
        if not self.path.is_file():
            raise FileNotFoundError(
                f"There is no file {self.path.absolute()}. Give as `--data.path` an .npz file of the arrays x_train, "
                f"y_train, x_test and y_test, made e.g. by `numpy.savez({str(self.path)!r}, x_train=…, y_train=…, "
                "x_test=…, y_test=…)`. For CIFAR-100 you can instead leave `--data.path` out and download it with "
                "`--data CIFAR100DataModule --data.download true`."
            )
        headers = {}
        with self._damage_named(), zipfile.ZipFile(self.path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    version = npy.read_magic(file)
                    if version not in _HEADER_READERS:
                        raise ValueError(f"{member} has version {version} of NumPy's format, for structured arrays")
                    shape, _, dtype = _HEADER_READERS[version](file)
                headers[member.removesuffix(".npy")] = _Header(shape, dtype)
        self._check_keys(set(headers))
        self._check_images(headers)
        if "y_train" in headers:
            self._check_label_types(headers)
        return headers

    @property
    @override
    def fingerprint(self) -> str:
        """Beginning of the SHA-256 of the names, checksums (CRC-32) and sizes of the arrays; reads no content."""
        with self._damage_named(), zipfile.ZipFile(self.path) as archive:
            members = sorted((member.filename, member.CRC, member.file_size) for member in archive.infolist())
        listed = "".join(f"{name} {checksum:08x} {size}\n" for name, checksum, size in members)
        return hashlib.sha256(listed.encode()).hexdigest()[:FINGERPRINT_LENGTH]

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
            raise ValueError(
                f"{self.path} cannot be read as an .npz file ({error}). It is damaged, or not one of numpy.savez."
            ) from error

    def _check_keys(self, keys: set[str]) -> None:
        wanted = {"x_train", "x_test"}
        # A file with labels under another name must not pass for unlabelled data.
        if keys != wanted:
            wanted |= {"y_train", "y_test"}
        if not wanted <= keys:
            raise ValueError(
                f"{self.path} has the keys {sorted(keys)}; {sorted(wanted - keys)} missing. Expected x_train, y_train, "
                "x_test and y_test, or x_train and x_test alone for unlabelled images."
            )

    def _check_images(self, headers: dict[str, _Header]) -> None:
        for key in ("x_train", "x_test"):
            shape, dtype = headers[key]
            if dtype != np.uint8:
                raise TypeError(f"{self.path}: {key} has the type {dtype}. Images must be uint8, from 0 to 255.")
            if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] not in (1, 3)):
                raise ValueError(
                    f"{self.path}: {key} has the shape {shape}. Images must be (n, height, width), or (n, height, "
                    "width, channels) with 1 or 3 channels last, and n at least 1."
                )
        if headers["x_train"].shape[1:] != headers["x_test"].shape[1:]:
            raise ValueError(
                f"{self.path}: the images of x_train are {headers['x_train'].shape[1:]}, those of x_test "
                f"{headers['x_test'].shape[1:]}. They must agree."
            )

    def _check_label_types(self, headers: dict[str, _Header]) -> None:
        for split in _SPLITS:
            shape, dtype = headers[f"y_{split}"]
            if not np.issubdtype(dtype, np.integer):
                raise TypeError(f"{self.path}: y_{split} has the type {dtype}. Labels must be integers.")
            samples = headers[f"x_{split}"].shape[0]
            if shape not in ((samples,), (samples, 1)):
                raise ValueError(
                    f"{self.path}: y_{split} has the shape {shape}, but x_{split} has {samples} images. Expected "
                    f"({samples},)."
                )

    @property
    @override
    def in_channels(self) -> int:
        """Number of channels, 1 or 3."""
        return (*self._headers["x_train"].shape, 1)[3]

    # --------------------------------------------------------------------------------- known from the arrays

    def _read(self, key: str) -> npt.NDArray[Any]:
        with self._damage_named(), np.load(self.path, allow_pickle=False) as arrays:
            return np.asarray(arrays[key])

    @cached_property
    def _labels(self) -> dict[Split, npt.NDArray[Any]] | None:
        if "y_train" not in self._headers:
            return None
        return {split: self._read(f"y_{split}").reshape(-1) for split in _SPLITS}

    @cached_property
    def _checked_classes(self) -> int | None:
        if self._labels is None:
            if self._given_classes is not None:
                raise ValueError(
                    f"num_classes is {self._given_classes}, but {self.path} has no labels. Leave it out, or add "
                    "y_train and y_test."
                )
            return None
        classes = int(self._labels["train"].max()) + 1 if self._given_classes is None else self._given_classes
        for split, labels in self._labels.items():
            outside = np.flatnonzero((labels < 0) | (labels >= classes))
            if len(outside):
                source = "" if self._given_classes else " (one more than the largest label of y_train)"
                raise ValueError(
                    f"{self.path}: y_{split}[{outside[0]}] is {labels[outside[0]]}, and {len(outside)} label(s) in all "
                    f"lie outside 0 … {classes - 1}. The number of classes is {classes}{source}: correct the labels, "
                    "or set `num_classes`."
                )
        return classes

    @property
    @override
    def num_classes(self) -> int | None:
        """Number of classes; None for unlabelled images."""
        return self._checked_classes

    @cached_property
    def _statistics(self) -> tuple[list[float], list[float]]:
        images = self.images("train")
        assert isinstance(images, InMemoryImages)
        mean, std = images.channel_statistics()
        if 0 in std and self._given_std is None:
            raise ValueError(
                f"{self.path}: channel {std.index(0)} of x_train is constant, so that it cannot be scaled to a "
                "standard deviation of 1. Leave the channel out, or give `std`."
            )
        return mean, std

    @property
    @override
    def mean(self) -> list[float]:
        """Mean of each channel, as given or as in ``x_train``."""
        return self._statistics[0] if self._given_mean is None else self._given_mean

    @property
    @override
    def std(self) -> list[float]:
        """Standard deviation of each channel, as given or as in ``x_train``."""
        return self._statistics[1] if self._given_std is None else self._given_std

    @override
    def load(self, split: Split) -> InMemoryImages:
        """Read a split, uint8 (n, C, H, W)."""
        self._checked_classes  # noqa: B018 - checks the labels
        images = torch.from_numpy(self._read(f"x_{split}"))
        if images.ndim == 3:
            images = images.unsqueeze(3)
        labels = None if self._labels is None else torch.from_numpy(self._labels[split].astype(np.int64))
        return InMemoryImages(images.permute(0, 3, 1, 2).contiguous(), labels)
