"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), downloaded and checked by torchvision, held in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torchvision.datasets import CIFAR10, CIFAR100  # type: ignore[import-untyped]
from typing_extensions import override

from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.data.images import InMemoryImages
from rectified_lpjepa.data.rgb import RGBDataModule


class CIFAR10DataModule(RGBDataModule):
    """CIFAR-10: 50,000 training and 10,000 test images of 32 × 32 pixels in ten classes.

    Args:
        root: folder that holds the data set's own folder, as torchvision lays it out.
        download: fetch the data set into ``root`` if it is not there.
        image_size: side of the views, and of evaluation images, in pixels.
        **kwargs: further arguments of :class:`~rectified_lpjepa.data.TwoViewDataModule`.
    """

    _torchvision: ClassVar[type[CIFAR10]] = CIFAR10
    _num_classes: ClassVar[int] = 10
    _mean = (0.4914, 0.4822, 0.4465)
    _std = (0.2470, 0.2435, 0.2616)

    def __init__(self, root: str = "datasets", download: bool = False, image_size: int = 32, **kwargs: Any) -> None:
        super().__init__(image_size, **kwargs)
        self.root = root
        self.download = download

    @property
    @override
    def num_classes(self) -> int:
        """Number of classes."""
        return self._num_classes

    @override
    def prepare_data(self) -> None:
        """Download the data set if asked to."""
        if self.download:
            self._torchvision(self.root, download=True)

    @override
    def load(self, split: Split) -> InMemoryImages:
        """Read a split, uint8 (n, 3, 32, 32); torchvision unpickles the files only if their checksums are right.

        Raises:
            FileNotFoundError: the data set is not in ``root``.
            ValueError: a file is missing or has another checksum than the published one.
        """
        folder = Path(self.root) / self._torchvision.base_folder
        name = self._torchvision.__name__
        if not folder.is_dir():
            raise FileNotFoundError(
                f"There is no {name} at {folder.absolute()}. Get it with `rectified-lpjepa fit --config … --data.root "
                f"{self.root} --data.download true`, or give the folder that holds {folder.name} as `--data.root`."
            )
        try:
            data = self._torchvision(self.root, train=split == "train")
        except RuntimeError as error:
            raise ValueError(
                f"{name} at {folder.absolute()} is incomplete or damaged: the checksum of a file is not the published "
                "one. Delete the folder and download it again with `--data.download true`."
            ) from error
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return InMemoryImages(images, torch.tensor(data.targets, dtype=torch.int64))


class CIFAR100DataModule(CIFAR10DataModule):
    """CIFAR-100: 50,000 training and 10,000 test images of 32 × 32 pixels in a hundred (fine) classes.

    Args:
        root: folder that holds the data set's own folder, as torchvision lays it out.
        download: fetch the data set into ``root`` if it is not there.
        image_size: side of the views, and of evaluation images, in pixels.
        **kwargs: further arguments of :class:`~rectified_lpjepa.data.TwoViewDataModule`.
    """

    _torchvision = CIFAR100
    _num_classes = 100
    _mean = (0.5071, 0.4865, 0.4409)
    _std = (0.2673, 0.2564, 0.2762)
