"""JPEGs decoded whole or at a fraction of their size, against PIL."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from rectified_lpjepa.data.augmentations import Augmentation, crop_boxes
from rectified_lpjepa.data.decoding import DETAIL, EncodedImage, read_image, scaled_box
from rectified_lpjepa.data.image_files import FolderImages
from rectified_lpjepa.data.image_ops import crop_host


def photograph(number: int = 0) -> Image.Image:
    """One of scikit-learn's two photographs, 640 × 427 pixels."""
    return Image.fromarray(load_sample_images().images[number])


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **({"quality": 95} | options))
    return path


def bytes_of(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_full_decoding_is_pils(tmp_path: Path, options: dict[str, object]) -> None:
    image = EncodedImage(saved(tmp_path / "a.jpg", photograph(), **options))
    assert (image.width, image.height, image.format) == (640, 427, "JPEG")
    pixels = image.decode()
    assert torch.equal(pixels, bytes_of(Image.open(tmp_path / "a.jpg")))
    assert pixels.stride()[0] == 1  # what makes crop_host fast


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_printers_colours_become_rgb(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "a.jpg", photograph().convert(mode))
    wanted = bytes_of(Image.open(path).convert("RGB"))
    assert torch.equal(EncodedImage(path).decode(), wanted)
    assert EncodedImage(path).decode(2).shape == (3, 214, 320)


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", photograph(), exif=exif)
    for scale in (1, 2):
        assert EncodedImage(path).decode(scale).shape == (3, -(-427 // scale), 640 // scale)


@pytest.mark.parametrize("size", [(640, 427), (333, 500), (17, 9), (8, 8)])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_scaled_decoding_shows_the_same_picture(tmp_path: Path, size: tuple[int, int], scale: int) -> None:
    path = saved(tmp_path / "a.jpg", photograph().resize(size))
    pixels = EncodedImage(path).decode(scale)
    width, height = size[0] // scale, size[1] // scale
    assert pixels.shape == (3, -(-size[1] // scale), -(-size[0] // scale))
    full = bytes_of(read_image(path))[:, : height * scale, : width * scale].double()
    means = full.unflatten(1, (height, scale)).unflatten(3, (width, scale)).mean((2, 4))
    # libjpeg's smaller inverse transforms are no plain means of squares, but they are never moved by a pixel.
    assert (pixels[:, :height, :width] - means).abs().mean() < 6


@pytest.mark.parametrize(
    ("side", "scale"), [(47, 1), (96, 2), (95, 1), (191, 2), (192, 4), (383, 4), (384, 8), (2000, 8)]
)
def test_the_scale_leaves_enough_detail(tmp_path: Path, side: int, scale: int) -> None:
    assert DETAIL == 1.5
    image = EncodedImage(saved(tmp_path / "a.jpg", photograph()))
    for box in ([0, 0, side, 2000], [5, 3, 2000, side]):
        assert image.scale_for([box], 32) == scale
        assert image.scale_for([[0, 0, 2000, 2000], box], 32) == scale  # the smallest box decides
    assert EncodedImage(saved(tmp_path / "a.png", photograph())).scale_for([[0, 0, 2000, 2000]], 32) == 1


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_scaled_boxes_stay_where_they_were(tmp_path: Path, scale: int) -> None:
    image = EncodedImage(saved(tmp_path / "a.jpg", photograph().resize((301, 203))))
    generator = torch.Generator().manual_seed(0)
    parameters = Augmentation().draw(1, 500, generator=generator)
    boxes = [*crop_boxes(parameters, image.height, image.width)[0].tolist(), [0, 0, 203, 301]]
    for box in boxes:
        top, left, height, width = scaled_box(box, image, scale)
        for new, new_extent, old, old_extent, length in (
            (top, height, box[0], box[2], image.height),
            (left, width, box[1], box[3], image.width),
        ):
            assert abs(new * scale - old) <= scale / 2
            end = min(old + old_extent, length // scale * scale)
            assert abs((new + new_extent) * scale - end) <= scale / 2
            assert 0 <= new < new + new_extent <= length // scale
    if scale == 1:
        assert [scaled_box(box, image, 1) for box in boxes] == boxes


@pytest.mark.parametrize("scale", [2, 4])
def test_crops_lose_much_less_by_scaled_decoding_than_by_moving_a_pixel(tmp_path: Path, scale: int) -> None:
    for number in (0, 1):
        image = EncodedImage(saved(tmp_path / f"{number}.jpg", photograph(number)))
        size = 64 if scale == 2 else 48
        side = round(DETAIL * scale * size)
        box = [scale * 3, scale * 20, side, side]
        assert image.scale_for([box], size) == scale
        top, left, height, width = scaled_box(box, image, scale)
        pixels = EncodedImage(image.path).decode(scale)
        full = crop_host(image.decode(), box, size).int()
        exact = (crop_host(pixels, [top, left, height, width], size) - full).abs().double().mean()
        for moved in ([top + 1, left, height, width], [top, left - 1, height, width]):
            assert 0 < exact < (crop_host(pixels, moved, size) - full).abs().double().mean() / 3


def test_damage_is_found_at_any_scale(tmp_path: Path) -> None:
    path = saved(tmp_path / "broken.jpg", photograph())
    path.write_bytes(path.read_bytes()[:20_000])
    for scale in (1, 2, 8):
        with pytest.raises(ValueError, match=r"broken\.jpg cannot be decoded .*truncated.*replace it, or delete it"):
            EncodedImage(path).decode(scale)
    with pytest.raises(ValueError, match=r"nowhere\.jpg cannot be decoded"):
        EncodedImage(tmp_path / "nowhere.jpg")


def test_training_crops_of_large_jpegs_are_cut_at_a_smaller_scale(tmp_path: Path) -> None:
    """More files than are held together, each decoded at the scale that its own two boxes allow."""
    files = [saved(tmp_path / f"{number}.jpg", photograph(number % 2)).name for number in range(19)]
    parameters = Augmentation(crop_scale=(0.05, 1.0)).draw(2, 19, generator=torch.Generator().manual_seed(0))
    images = FolderImages(tmp_path, files, torch.zeros(19, dtype=torch.int64), 48)
    [crops] = images.read_training(torch.arange(19), [(parameters, 48)])
    scales = set()
    for row, file in enumerate(files):
        boxes = crop_boxes(parameters.rows(row, row + 1), 427, 640)[:, 0].tolist()
        shortest = min(min(box[2:]) for box in boxes)
        scale = max(scale for scale in (1, 2, 4, 8) if scale == 1 or shortest >= 1.5 * 48 * scale)
        scales.add(scale)
        with Image.open(tmp_path / file) as image:
            image.draft("RGB", (640 // scale, 427 // scale))
            pixels = bytes_of(image)
        for view, box in enumerate(boxes):
            wanted = crop_host(pixels, scaled_box(box, EncodedImage(tmp_path / file), scale), 48)
            assert torch.equal(crops[view, row], wanted)
        # The same sample in another batch and place, as with another number of processes.
        [alone] = images.read_training(torch.tensor([row]), [(parameters.rows(row, row + 1), 48)])
        assert torch.equal(alone[:, 0], crops[:, row])
    assert scales == {1, 2, 4}


def test_real_photographs_lose_little_by_scaled_decoding() -> None:
    variable = "RECTIFIED_LPJEPA_SAMPLE_IMAGES"
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name a folder <wnid>/*.JPEG of real ILSVRC photographs")
    losses = []
    for path in sorted(Path(os.environ[variable]).rglob("*.JPEG")):
        image = EncodedImage(path)
        size = min(image.width, image.height) // 3
        box = [0, 0, image.height, image.width]
        assert image.scale_for([box], size) == 2
        scaled = scaled_box(box, image, 2)
        full = crop_host(image.decode(), [0, 0, 2 * scaled[2], 2 * scaled[3]], size)
        losses.append((crop_host(EncodedImage(path).decode(2), scaled, size).int() - full.int()).abs().double().mean())
    assert torch.stack(losses).mean() < 1
