"""The images of one split that are files: decoded when they are read, cropped on the host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rectified_lpjepa.data.augmentations import ViewParameters, crop_boxes
from rectified_lpjepa.data.decoding import JPEG_SCALES, EncodedImage, read_image, scaled_box
from rectified_lpjepa.data.image_ops import crop_host

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
