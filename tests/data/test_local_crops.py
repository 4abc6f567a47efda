"""Local crops: what they show, and that they leave the global views as they are, however images are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batches_of import on_rank, views_of
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_image
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2.functional import horizontal_flip, resized_crop

from rectified_lpjepa.data import (
    Augmentation,
    DigitsDataModule,
    ImageFolderDataModule,
    LocalCrops,
    NpzDataModule,
    TwoViewDataModule,
)
from rectified_lpjepa.data.augmentations import augment, crop_boxes
from rectified_lpjepa.data.image_files import FolderImages
from rectified_lpjepa.functional.randomness import keyed_generator

CROPS = LocalCrops(num=3, size=7)
COLOURLESS = Augmentation(crop_scale=(0.3, 1.0), jitter=0.0, grayscale=0.0, solarize=0.0)
SAMPLES, SIDE = 20, 48


def digits(**arguments: Any) -> DigitsDataModule:
    return DigitsDataModule(**({"batch_size": 24, "seed": 3, "views": 3, "local_crops": CROPS} | arguments))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photographs as an .npz file and as a folder of files without loss."""
    folder = tmp_path_factory.mktemp("stored")
    photograph = 64 + load_sample_image("china.jpg") // 2  # where the bicubic kernel cannot overshoot
    tiles = np.stack([photograph[10 * n : 10 * n + SIDE, 20 * n : 20 * n + SIDE] for n in range(SAMPLES)])
    np.savez(folder / "tiles.npz", x_train=tiles, x_test=tiles[:2])
    for split, count in (("train", SAMPLES), ("val", 2)):
        (folder / split).mkdir()
        for number in range(count):
            Image.fromarray(tiles[number]).save(folder / split / f"{number:02}.png")
    return folder


def photographs(folder: Path, kind: str, **arguments: Any) -> TwoViewDataModule:
    settings: dict[str, Any] = {"image_size": 32, "batch_size": 10, "augmentation": COLOURLESS, "seed": 1}
    settings |= {"local_crops": LocalCrops(num=4, size=14)} | arguments
    if kind == "memory":
        return NpzDataModule(str(folder / "tiles.npz"), **settings)
    return ImageFolderDataModule(str(folder), num_workers=0, **settings)


def test_local_crops_are_those_of_the_recipe_with_areas_of_their_own() -> None:
    module = digits()
    batch = list(module.train_dataloader())[5]
    views = views_of(module, batch)
    assert views.images.shape == (3, 24, 1, 16, 16)
    assert views.local is not None
    assert views.local.shape == (3, 24, 1, 7, 7)
    assert views.local.dtype == torch.float32
    recipe = replace(module.augmentation, crop_scale=(0.05, 0.3))
    table = recipe.draw(3, 24, generator=keyed_generator(3, "local crops", batch.number))
    images = module.images("train").images[batch.indices]
    assert torch.equal(views.local, augment(images, table, 7))


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_local_crops_are_torchvisions_of_their_boxes(kind: str, stored: Path) -> None:
    module = photographs(stored, kind)
    batch = next(iter(module.train_dataloader()))
    views, table = views_of(module, batch), batch.local_parameters
    assert views.local is not None
    assert table is not None
    assert views.local.shape == (4, 10, 3, 14, 14)
    assert (batch.local_images is None) == (kind == "memory")
    files = sorted((stored / "train").iterdir())
    for row, index in enumerate(batch.indices.tolist()):
        image = torch.from_numpy(np.array(Image.open(files[index]))).permute(2, 0, 1) / 255
        for crop, box in enumerate(crop_boxes(table, SIDE, SIDE)[:, row].tolist()):
            wanted = resized_crop(image, *box, size=[14, 14], interpolation=InterpolationMode.BICUBIC, antialias=True)
            wanted = horizontal_flip(wanted) if table.flip[crop, row] else wanted
            # Crops made on the host travel as bytes.
            tolerance = 1e-5 if kind == "memory" else 2 / 255
            torch.testing.assert_close(views.local[crop, row], wanted, rtol=0, atol=tolerance)


def test_both_ways_of_reading_give_the_same_views(stored: Path) -> None:
    of_kind = []
    for kind in ("memory", "files"):
        module = photographs(stored, kind, augmentation=Augmentation(jitter=0.0, blur=0.5), views=3)
        of_kind.append([views_of(module, batch) for batch in module.train_dataloader()])
    assert len(of_kind[0]) == 2
    for one, other in zip(*of_kind, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert one.local is not None
        for ours, theirs in ((one.images, other.images), (one.local, other.local)):
            # Half a byte may put a pixel on the other side of the threshold of solarize, but inverted it is as near.
            torch.testing.assert_close(ours, theirs, rtol=0, atol=3 / 255)


def test_areas_follow_torchvisions_law() -> None:
    height, width, count = 140, 170, 3000
    table = CROPS.recipe(Augmentation()).draw(1, count, generator=torch.Generator().manual_seed(2))
    ours = crop_boxes(table, height, width)[0, :, 2:].prod(-1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        image = torch.empty(1, height, width)
        boxes = [RandomResizedCrop.get_params(image, [0.05, 0.3], [3 / 4, 4 / 3]) for _ in range(count)]
    assert stats.ks_2samp(ours, torch.tensor(boxes)[:, 2:].prod(-1)).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_global_views_do_not_change_with_local_crops(kind: str, stored: Path) -> None:
    given, alone = photographs(stored, kind), photographs(stored, kind, local_crops=LocalCrops())
    for with_crops, without in zip(given.train_dataloader(), alone.train_dataloader(), strict=True):
        assert torch.equal(with_crops.indices, without.indices)
        views, plain = views_of(given, with_crops), views_of(alone, without)
        assert torch.equal(views.images, plain.images)
        assert plain.local is None


def photograph(folder: Path, width: int) -> Path:
    path = folder / f"{width}.jpg"
    Image.fromarray(load_sample_image("china.jpg")).resize((width, width * 2 // 3)).save(path, quality=92)
    return path


def test_each_kind_is_cut_at_the_scale_of_its_own(tmp_path: Path) -> None:
    files = [photograph(tmp_path, width).name for width in (640, 400, 1200)]
    images = FolderImages(tmp_path, files, torch.zeros(3, dtype=torch.int64), 48)
    views = Augmentation(crop_scale=(0.5, 1.0)).draw(2, 3, generator=torch.Generator().manual_seed(0))
    local = Augmentation(crop_scale=(0.05, 0.3)).draw(4, 3, generator=torch.Generator().manual_seed(1))
    both = images.read_training(torch.arange(3), [(views, 48), (local, 48)])
    alone = [images.read_training(torch.arange(3), [kind])[0] for kind in ((views, 48), (local, 48))]
    for together, by_itself in zip(both, alone, strict=True):
        assert torch.equal(together, by_itself)
    fine = type("Fine", (FolderImages,), {"jpeg_scales": (1,)})(tmp_path, files, images.labels, 48)
    assert not torch.equal(fine.read_training(torch.arange(3), [(views, 48)])[0], both[0])


@pytest.mark.parametrize("world", [2, 4])
def test_local_crops_do_not_depend_on_the_number_of_processes(world: int) -> None:
    single = digits()
    wanted = [views_of(single, batch) for batch in list(single.train_dataloader())[:2]]
    ranks = [on_rank(digits(), world, rank) for rank in range(world)]
    given = [[views_of(module, batch) for batch in list(module.train_dataloader())[:2]] for module in ranks]
    for number, whole in enumerate(wanted):
        parts: list[Tensor] = [views[number].local for views in given]  # type: ignore[misc]
        torch.testing.assert_close(torch.cat(parts, 1), whole.local, rtol=0, atol=1e-6)
    tables = [[batch.local_parameters for batch in module.train_dataloader()] for module in (single, *ranks)]
    for whole_table, *shares in zip(*tables, strict=True):
        for column, *columns in zip(whole_table, *shares, strict=True):
            assert column is None or torch.equal(torch.cat(columns, 1), column)


def test_each_sample_crop_and_batch_has_draws_of_its_own() -> None:
    tables = [batch.local_parameters for batch in list(digits().train_dataloader())[:2]]
    areas = torch.stack([table.crop_area for table in tables if table is not None])
    assert areas.unique().numel() == areas.numel() == 2 * 3 * 24 * 10
    assert 0.05 <= areas.min() < areas.max() <= 0.3
    table = next(iter(digits().train_dataloader())).parameters
    assert not set(areas.flatten().tolist()) & set(table.crop_area.flatten().tolist())


def test_evaluation_has_no_local_crops() -> None:
    module = digits()
    for loader in (module.val_dataloader(), module.views_loader("test", 50)):
        batch = next(iter(loader))
        assert batch.local_parameters is None
        assert views_of(module, batch).local is None


def test_local_crops_are_told_at_the_start_of_a_run() -> None:
    assert digits().local_size == 7
    assert digits().facts()["views"] == "3 of 16 × 16 pixels, and 3 local crops of 7 × 7 pixels"
    assert DigitsDataModule().local_size is None
    assert "views" not in DigitsDataModule().facts()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num": -1}, r"local_crops\.num is -1. It must be at least 0"),
        ({"size": 0}, r"local_crops\.size is 0. It must be at least 1"),
        ({"crop_scale": (0.3, 0.05)}, r"crop_scale=\(0\.3, 0\.05\): expected two numbers"),
    ],
)
def test_local_crops_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalCrops(**arguments)


def test_local_crops_larger_than_the_global_views_are_refused() -> None:
    with pytest.raises(ValueError, match=r"local_crops\.size is 96 and image_size 16.*HINT: .*local_crops\.size 8`"):
        digits(local_crops=LocalCrops(num=2))
    assert digits(local_crops=LocalCrops(num=2, size=16)).local_size == 16


def test_local_crops_do_not_stand_in_for_a_second_global_view() -> None:
    with pytest.raises(ValueError, match=r"views is 1\. It must be at least 2"):
        digits(views=1)
