"""Image files, decoded to 8-bit RGB: whole, or a JPEG at a fraction of its size."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

# Whatever Pillow's decoders raise on files that are damaged, cut short or no images at all.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)

JPEG_SCALES = (1, 2, 4, 8)
"""By how much libjpeg can divide both sides while it decodes: it then computes fewer points of each 8 × 8 block."""

DETAIL = 1.5
"""Stored pixels that must be left for each pixel of a crop, along both sides, after scaled decoding.

On ILSVRC photographs the bytes of a crop then differ by 0.8 in the mean (26 at most) from those that full decoding
gives, as much as by saving the photograph once more in JPEG quality 95 (0.7; 29) and less than by a bilinear kernel in
place of the bicubic one (1.8; 35). With 1 in place of 1.5 it would be 1.9 (68), with 2 it is 0.5 (15).
"""


class EncodedImage:
    """An image file that is read into memory and of which only the header is decoded.

    Its size is ``width`` × ``height`` pixels, its ``format`` what Pillow calls it, ``encoded`` the file's bytes.

    Args:
        path: the file.

    Raises:
        ValueError: the file is no image, is damaged, or has more than 8 bits a channel; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _errors_naming(path):
            self.encoded = path.read_bytes()
            image = Image.open(BytesIO(self.encoded))
        if image.mode.startswith(("I", "F")):
            raise ValueError(
                f"The image {path} has the mode {image.mode}, more than 8 bits a channel. Convert it to 8 bits."
            )
        self.width, self.height = image.size
        self.format = image.format
        self._undecoded: Image.Image | None = image

    def scale_for(self, boxes: Sequence[Sequence[int]], size: int, scales: Sequence[int] = JPEG_SCALES) -> int:
        """Choose by how much to divide the sides in decoding, see :data:`DETAIL`.

        Args:
            boxes: what will be cut out: top, left, height, width in pixels of the whole image.
            size: side of the crops in pixels.
            scales: those to choose from, some of :data:`JPEG_SCALES`.

        Returns:
            The largest scale that leaves enough detail for every box; 1 if there is none, and for what is no JPEG.
        """
        if self.format != "JPEG":
            return 1
        detail = min(min(box[2:]) for box in boxes) / size
        return max((scale for scale in scales if detail >= DETAIL * scale), default=1)

    def decode(self, scale: int = 1) -> Tensor:
        """Decode the pixels. EXIF rotation is not applied, as in torchvision.

        Args:
            scale: one of :data:`JPEG_SCALES`; other formats than JPEG only know 1.

        Returns:
            uint8 (3, ⌈height / scale⌉, ⌈width / scale⌉), the channels of a pixel side by side in memory.

        Raises:
            ValueError: the file is damaged or cut short; the message names it.
        """
        return torch.from_numpy(np.array(self.to_pil(scale))).permute(2, 0, 1)

    def to_pil(self, scale: int = 1) -> Image.Image:
        """Decode the pixels to a Pillow image of mode ``"RGB"``; otherwise as :meth:`decode`."""
        with _errors_naming(self.path):
            # Pillow decodes an image once, at one scale.
            image, self._undecoded = self._undecoded or Image.open(BytesIO(self.encoded)), None
            if scale > 1:
                image.draft(None, (self.width // scale, self.height // scale))
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")


def read_image(path: Path) -> Image.Image:
    """Read an image file, see :class:`EncodedImage`, as a Pillow image of mode ``"RGB"``."""
    return EncodedImage(path).to_pil()


def scaled_box(box: Sequence[int], image: EncodedImage, scale: int) -> list[int]:
    """Find a box again in an image that was decoded at a fraction of its size.

    Its edges are rounded to whole pixels of the decoded image, that is by at most ``scale`` / 2 pixels of the stored
    one, because a kernel must not reach over the edge of a crop. The last row and column of the decoded image are left
    out where only a part of them is image and the rest is JPEG's filling.

    Args:
        box: top, left, height, width in pixels of the whole image.
        image: where the box lies.
        scale: by how much both sides were divided.

    Returns:
        Top, left, height, width in pixels of the decoded image.
    """
    top, left, height, width = box
    top, bottom = (min((edge + scale // 2) // scale, image.height // scale) for edge in (top, top + height))
    left, right = (min((edge + scale // 2) // scale, image.width // scale) for edge in (left, left + width))
    return [top, left, bottom - top, right - left]


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    try:
        yield
    except _DECODING_ERRORS as error:
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(
            f"The image {path} cannot be decoded ({reason}). It is damaged or incomplete: replace it, or delete it."
        ) from error
