"""Images in class folders against torchvision's ImageFolder, and what is said of folders that are not right."""

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize
from torchvision.transforms.functional import resized_crop

from rectified_lpjepa.data import ImageFolderDataModule, Views
from rectified_lpjepa.data.augmentations import colour, crop_boxes
from rectified_lpjepa.data.decoding import read_image
from rectified_lpjepa.data.image_files import resize_centre_crop


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """A smooth picture that survives JPEG, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    number = 0
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "ant", "bee"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                size = (40, 30) if index % 2 else (33, 48)
                picture(number, *size).save(folder / f"{index}.{('jpg', 'PNG')[index % 2]}")
                number += 1
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "cat" / "._0.jpg").write_text("a hidden file")
    (tmp_path / "train" / ".cache").mkdir()
    return tmp_path


def folder_module(root: Path, **arguments: Any) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), **({"image_size": 16, "num_workers": 0, "batch_size": 6} | arguments))


def test_classes_and_files_are_those_of_torchvision(tree: Path) -> None:
    module = folder_module(tree)
    assert module.num_classes == 3
    (tree / "train" / ".cache").rmdir()
    (tree / "train" / "cat" / "._0.jpg").unlink()
    for split, folder in (("train", "train"), ("test", "val")):
        reference = ImageFolder(tree / folder)
        assert module.classes == reference.classes == ["ant", "bee", "cat"]
        files = [tree / folder / name for names in module.files(split).values() for name in names]
        assert [
            (str(file), label) for file, label in zip(files, module.images(split).labels.tolist(), strict=True)
        ] == reference.samples


def test_facts_before_setup(tree: Path) -> None:
    module = folder_module(tree)
    assert (module.in_channels, module.image_size) == (3, 16)
    assert (module.mean, module.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert module.augmentation.blur == 0.5
    given = folder_module(tree, mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert (given.mean, given.std) == ([0.1, 0.2, 0.3], [1, 2, 3])


def test_facts_for_the_start_of_a_run(tree: Path) -> None:
    module = folder_module(tree)
    module.setup("fit")
    assert module.facts() == {"data": "ImageFolder", "training images": 12, "evaluation images": 6, "classes": 3}


def test_the_fingerprint_stays_when_the_folder_moves(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    fingerprint = folder_module(tree).fingerprint
    assert fingerprint is not None
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(tree, copy)
    assert folder_module(copy).fingerprint == fingerprint
    (copy / "train" / "ant" / "notes.txt").write_text("no image")
    assert folder_module(copy).fingerprint == fingerprint


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_names_have_another_fingerprint(tree: Path, split: str) -> None:
    before = folder_module(tree).fingerprint
    (tree / split / "ant" / "0.jpg").rename(tree / split / "ant" / "new.jpg")
    renamed = folder_module(tree).fingerprint
    (tree / split / "ant" / "new.jpg").rename(tree / split / "bee" / "new.jpg")
    moved = folder_module(tree).fingerprint
    (tree / split / "bee" / "new.jpg").unlink()
    removed = folder_module(tree).fingerprint
    assert len({before, renamed, moved, removed}) == 4


def test_training_crops_are_torchvisions_of_the_keyed_boxes(tree: Path) -> None:
    module = folder_module(tree)
    batch = next(iter(module.train_dataloader()))
    assert batch.images.shape == (2, 6, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    files = [tree / "train" / name for names in module.files("train").values() for name in names]
    for row, index in enumerate(batch.indices.tolist()):
        image = Image.open(files[index]).convert("RGB")
        boxes = crop_boxes(batch.parameters, image.height, image.width)[:, row]
        for view, box in enumerate(boxes.tolist()):
            wanted = resized_crop(image, *box, [16, 16], InterpolationMode.BICUBIC)
            difference = batch.images[view, row].permute(1, 2, 0).int() - torch.from_numpy(np.array(wanted)).int()
            # Pillow resizes in two passes; which one comes first may differ, and with it the rounding.
            assert difference.abs().max() <= 3
    views = module.on_after_batch_transfer(batch, 0)
    assert isinstance(views, Views)
    assert torch.equal(views.images, colour(batch.images, batch.parameters))
    assert views.images.dtype == torch.float32


def test_workers_change_nothing(tree: Path) -> None:
    alone = list(folder_module(tree).train_dataloader())
    helped = list(folder_module(tree, num_workers=2).train_dataloader())
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.parameters.jitter_factors, other.parameters.jitter_factors)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("given", [0, 1, 4, 6])
def test_a_loader_goes_on_in_the_midst_of_an_epoch(tree: Path, workers: int, given: int) -> None:
    whole = [batch.indices.tolist() for batch in folder_module(tree, batch_size=2).train_dataloader()]
    first, second = (folder_module(tree, batch_size=2, num_workers=workers).train_dataloader() for _ in range(2))
    parts = [batch.indices.tolist() for _, batch in zip(range(given), first, strict=False)]
    state = first.state_dict()
    second.load_state_dict(state)
    assert len(second) == len(whole)
    parts += [batch.indices.tolist() for batch in second]
    assert parts == whole
    assert second.state_dict() == {"batches": len(whole)}
    assert [batch.indices.tolist() for batch in second] == whole  # the next pass is a whole one


def test_workers_leave_signals_to_the_run(tree: Path) -> None:
    alone = list(folder_module(tree, batch_size=1).train_dataloader())
    batches = []
    for batch in folder_module(tree, batch_size=1, num_workers=2).train_dataloader():
        batches.append(batch)
        workers = multiprocessing.active_children() if len(batches) > 1 else []  # each has started by then
        for worker in workers:
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                os.kill(worker.pid or 0, number)
    assert len(batches) == 12
    for one, other in zip(alone, batches, strict=True):
        assert torch.equal(one.images, other.images)


def test_workers_end_with_a_process_that_leaves_them_behind(tree: Path) -> None:
    program = f"""
from rectified_lpjepa.data import ImageFolderDataModule
if __name__ == "__main__":
    loader = ImageFolderDataModule({str(tree)!r}, image_size=16, num_workers=2, batch_size=1).train_dataloader()
    kept = iter(loader)
    next(kept), next(kept)
    loader._iterator._shutdown_workers = lambda: None
    raise SystemExit(7)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 7


@pytest.mark.parametrize("size", [224, 32, 15])
@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (301, 301), (90, 77)])
def test_evaluation_images_are_torchvisions(size: int, shape: tuple[int, int]) -> None:
    image = picture(1, *shape)
    reference = Compose([Resize(round(size * 256 / 224), InterpolationMode.BICUBIC), CenterCrop(size)])
    assert np.array_equal(np.asarray(resize_centre_crop(image, size)), np.asarray(reference(image)))


def test_evaluation_batches(tree: Path) -> None:
    module = folder_module(tree, eval_batch_size=4)
    batches = list(module.val_dataloader())
    images = torch.cat([module.on_after_batch_transfer(batch, 0).images for batch in batches])
    assert images.shape == (6, 3, 16, 16)
    wanted = [resize_centre_crop(Image.open(file).convert("RGB"), 16) for file, _ in ImageFolder(tree / "val").samples]
    assert torch.equal(images, torch.from_numpy(np.stack(wanted)).permute(0, 3, 1, 2) / 255)
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 0, 1, 1, 2, 2]


def test_grey_and_transparent_images_become_colour(tmp_path: Path) -> None:
    grey = picture(0).convert("L")
    grey.save(tmp_path / "grey.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "grey.png"))[..., 2], np.asarray(grey))
    picture(0).convert("RGBA").save(tmp_path / "alpha.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "alpha.png")), np.asarray(picture(0)))


def test_unlabelled_folders(tree: Path) -> None:
    for split in ("train", "val"):
        for file in sorted((tree / split).glob("*/[0-9]*")):
            file.rename(tree / split / f"{file.parent.name}-{file.name}")
        for name in ("ant", "bee", "cat"):
            shutil.rmtree(tree / split / name)
    module = folder_module(tree, batch_size=12)
    assert module.num_classes is None
    (batch,) = module.train_dataloader()
    assert batch.labels.tolist() == [-1] * 12
    assert len(module.images("test").labels) == 6


def test_images_in_subfolders_of_a_class_count(tree: Path) -> None:
    deeper = tree / "train" / "ant" / "more"
    deeper.mkdir()
    shutil.copy(tree / "train" / "ant" / "0.jpg", deeper)
    assert "ant/more/0.jpg" in folder_module(tree).files("train")["ant"]


# ------------------------------------------------------------------------------------------------------------- errors


def test_missing_folders(tree: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"There is no folder .*nowhere/train\. Give as `--data\.root`"
    ) as error:
        folder_module(tree / "nowhere").setup("fit")
    assert "train/<class>/ and val/<class>/" in str(error.value)
    shutil.rmtree(tree / "val")
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*/val"):
        folder_module(tree).setup("fit")


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_class_folder_is_named(tree: Path, split: str) -> None:
    for file in (tree / split / "bee").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=rf"{split}/bee has no images"):
        folder_module(tree).setup("fit")


def test_an_empty_training_folder(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    with pytest.raises(ValueError, match="train has no images"):
        folder_module(tmp_path).setup("fit")


def test_classes_that_training_does_not_know(tree: Path) -> None:
    shutil.copytree(tree / "val" / "bee", tree / "val" / "dog")
    with pytest.raises(ValueError, match=r"classes \['dog'\], which .*train does not have"):
        folder_module(tree).setup("validate")


def test_images_outside_the_class_folders(tree: Path) -> None:
    shutil.copy(tree / "train" / "bee" / "0.jpg", tree / "train" / "stray.jpg")
    with pytest.raises(ValueError, match=r"outside the class folders, such as stray\.jpg"):
        folder_module(tree).setup("fit")


def test_validation_without_classes(tree: Path) -> None:
    shutil.rmtree(tree / "val")
    (tree / "val").mkdir()
    with pytest.raises(ValueError, match="val has no class folders"):
        folder_module(tree).setup("validate")


def test_a_truncated_image_is_named(tree: Path) -> None:
    broken = tree / "train" / "bee" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    with pytest.raises(ValueError, match=r"bee/0\.jpg cannot be decoded"):
        list(folder_module(tree, batch_size=12).train_dataloader())


@pytest.mark.parametrize(
    "content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + bytes(60)], ids=["empty", "text", "png"]
)
def test_what_is_no_image_is_named(tree: Path, content: bytes) -> None:
    (tree / "val" / "cat" / "1.PNG").write_bytes(content)
    with pytest.raises(ValueError, match=r"val/cat/1\.PNG cannot be decoded.*replace it, or delete it"):
        list(folder_module(tree).val_dataloader())


def test_sixteen_bit_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has the mode I;16"):
        read_image(tmp_path / "deep.png")
