"""Data modules: augmented views of each image for training, every sample once for evaluation."""

from rectified_lpjepa.data.augmentations import Augmentation
from rectified_lpjepa.data.batches import Batch, Views
from rectified_lpjepa.data.cifar import CIFAR10DataModule, CIFAR100DataModule
from rectified_lpjepa.data.digits import DigitsDataModule
from rectified_lpjepa.data.folder import ImageFolderDataModule
from rectified_lpjepa.data.imagenet100 import ImageNet100DataModule
from rectified_lpjepa.data.local_crops import LocalCrops
from rectified_lpjepa.data.module import TwoViewDataModule
from rectified_lpjepa.data.npz import NpzDataModule
from rectified_lpjepa.data.torchvision_sets import TorchvisionDataModule

__all__ = [
    "Augmentation",
    "Batch",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "DigitsDataModule",
    "ImageFolderDataModule",
    "ImageNet100DataModule",
    "LocalCrops",
    "NpzDataModule",
    "TorchvisionDataModule",
    "TwoViewDataModule",
    "Views",
]
