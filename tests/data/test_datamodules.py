"""The base of the data modules on digits: loaders, views and subsets."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from batches_of import on_rank, views_of
from jsonargparse import ArgumentParser
from sklearn.datasets import load_digits
from torch import Tensor

from rectified_lpjepa.data import DigitsDataModule, TwoViewDataModule
from rectified_lpjepa.data.augmentations import augment
from rectified_lpjepa.data.image_ops import fit_square
from rectified_lpjepa.data.images import InMemoryImages
from rectified_lpjepa.functional.randomness import keyed_generator

# ------------------------------------------------------------------------------------------------------------- digits


def test_digits_are_those_of_scikit_learn_with_a_fixed_stratified_part_held_out() -> None:
    module = DigitsDataModule()
    parts = {split: module.images(split) for split in ("train", "test")}
    assert [len(part.labels) for part in parts.values()] == [1437, 360]
    stored = torch.cat([part.images for part in parts.values()])
    assert stored.shape == (1797, 1, 8, 8)
    assert stored.dtype == torch.uint8

    reference = load_digits()
    pictures = {
        bytes(image): label for image, label in zip(reference.images.astype(np.uint8), reference.target, strict=True)
    }
    labels = torch.cat([part.labels for part in parts.values()])
    found = [bytes((image.double() * 16 / 255).round().byte().numpy()) for image in stored]
    assert set(found) == set(pictures)
    assert [pictures[picture] for picture in found] == labels.tolist()

    for digit in range(10):
        count = int((labels == digit).sum())
        assert abs(int((parts["test"].labels == digit).sum()) - count / 5) <= 1
    # The split of published numbers.
    assert hashlib.sha256(parts["test"].images.numpy().tobytes()).hexdigest()[:16] == "ac6ada28192bd51a"


def test_digits_know_their_facts_before_setup() -> None:
    module = DigitsDataModule(image_size=20)
    assert (module.num_classes, module.in_channels, module.image_size) == (10, 1, 20)
    pixels = module.images("train").images.double() / 255
    assert module.mean == pytest.approx([float(pixels.mean())], abs=1e-12)
    assert module.std == pytest.approx([float(pixels.std(correction=0))], abs=1e-12)


def test_digits_facts_for_the_start_of_a_run() -> None:
    module = DigitsDataModule(train_samples=100)
    module.setup("fit")
    assert module.facts() == {"data": "Digits", "training images": 100, "evaluation images": 360, "classes": 10}
    assert module.fingerprint is None


# ------------------------------------------------------------------------------------------------- loaders and views


def test_a_training_batch_and_its_views() -> None:
    module = DigitsDataModule(batch_size=32, seed=3, views=3)
    batch = list(module.train_dataloader())[5]
    assert batch.number == 5
    assert batch.images is None  # they are in memory: only indices travel
    source = module.images("train")
    stored = source.images[batch.indices]
    assert torch.equal(batch.labels, source.labels[batch.indices])

    views = views_of(module, batch)
    assert views.images.shape == (3, 32, 1, 16, 16)
    assert views.images.dtype == torch.float32
    assert 0 <= views.images.min() < views.images.max() <= 1
    assert not torch.equal(views.images[0], views.images[1])
    assert torch.equal(views.labels, batch.labels)
    assert torch.equal(views.indices, batch.indices)
    # The views are those of the recipe for the key (seed, "views", number).
    table = module.augmentation.draw(3, 32, generator=keyed_generator(3, "views", batch.number))
    assert torch.equal(views.images, augment(stored, table, 16))


def test_a_cpu_takes_images_out_of_the_memory_they_are_in() -> None:
    images = DigitsDataModule().images("train")
    assert isinstance(images, InMemoryImages)
    indices = torch.tensor([7, 3, 7])
    assert torch.equal(images.take(indices), images.images[indices])
    (kept,) = images._on_device.values()
    assert kept.data_ptr() == images.images.data_ptr()


def test_a_split_is_moved_to_a_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = InMemoryImages(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), None)
    moves = []
    move = Tensor.to
    monkeypatch.setattr(Tensor, "to", lambda tensor, device: moves.append(device) or move(tensor, device))
    on_device = torch.tensor([1, 2], device="meta")
    for _ in range(2):
        assert images.take(on_device).shape == (2, 1, 2, 2)
        assert images.take(on_device).device.type == "meta"
    assert moves == [torch.device("meta")]


def test_a_split_too_large_for_the_device_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    images = InMemoryImages(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), None)

    def full(tensor: Tensor, device: torch.device) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Tensor, "to", full)
    with pytest.raises(ValueError, match=r"no room for them. HINT: .*ImageFolderDataModule"):
        images.take(torch.tensor([0]))


def test_data_in_memory_need_no_workers() -> None:
    module = DigitsDataModule(num_workers=3, batch_size=32)
    assert module.train_dataloader().num_workers == module.val_dataloader().num_workers == 0


@pytest.mark.parametrize("world", [2, 4])
def test_views_do_not_depend_on_the_number_of_processes(world: int) -> None:
    single = DigitsDataModule(batch_size=24, seed=1)
    wanted = [views_of(single, batch) for batch in list(single.train_dataloader())[:3]]
    ranks = [on_rank(DigitsDataModule(batch_size=24, seed=1), world, rank) for rank in range(world)]
    given = [[views_of(module, batch) for batch in list(module.train_dataloader())[:3]] for module in ranks]
    for number, whole in enumerate(wanted):
        parts = [views[number] for views in given]
        assert torch.equal(torch.cat([part.images for part in parts], 1), whole.images)
        assert torch.equal(torch.cat([part.indices for part in parts]), whole.indices)
        assert {part.number for part in parts} == {whole.number} == {number}


@pytest.mark.parametrize("world", [2, 4])
def test_evaluation_takes_every_sample_once_over_the_processes(world: int) -> None:
    loaders = [on_rank(DigitsDataModule(eval_batch_size=50), world, rank).val_dataloader() for rank in range(world)]
    assert len({len(loader) for loader in loaders}) == 1
    seen = torch.cat([batch.indices for loader in loaders for batch in loader])
    assert seen.sort().values.tolist() == list(range(360))


def test_evaluation_images_are_the_stored_ones() -> None:
    module = DigitsDataModule(image_size=8, eval_batch_size=100)
    views = [views_of(module, batch) for batch in module.test_dataloader()]
    assert torch.equal(torch.cat([part.images for part in views]), module.images("test").images / 255)
    larger = views_of(DigitsDataModule(), next(iter(module.test_dataloader())))
    assert larger.images.shape[1:] == (1, 16, 16)


def test_evaluation_takes_the_central_square_of_oblong_images() -> None:
    images = torch.randint(0, 256, (2, 3, 10, 16), dtype=torch.uint8)
    assert torch.equal(fit_square(images, 10), images[..., 3:13] / 255)
    tall = images.transpose(-1, -2)
    assert torch.equal(fit_square(tall, 10), tall[..., 3:13, :] / 255)


def test_a_training_subset_is_fixed_and_nested() -> None:
    small, large = DigitsDataModule(train_samples=100, seed=1), DigitsDataModule(train_samples=200, seed=2)
    assert len(small.positions("train").unique()) == 100
    assert set(small.positions("train").tolist()) < set(large.positions("train").tolist())
    assert small.positions("train").tolist() != list(range(100))
    assert len(small.positions("test")) == 360
    small.batch_size = 100
    (batch,) = small.train_dataloader()
    assert batch.indices.sort().values.tolist() == small.positions("train").tolist()
    for wrong in (0, 1438):
        with pytest.raises(ValueError, match=rf"train_samples is {wrong}.*between 1 and 1437"):
            DigitsDataModule(train_samples=wrong).positions("train")


@pytest.mark.parametrize(("split", "samples"), [("test", 360), ("train", 90)])
def test_prediction_covers_the_split_asked_for(split: Any, samples: int) -> None:
    module = DigitsDataModule(predict_split=split, train_samples=90, eval_batch_size=64)
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert sum(len(batch.indices) for batch in batches) == samples
    assert all(batch.parameters is None for batch in batches)


def test_loading_does_not_touch_the_global_generator() -> None:
    module = DigitsDataModule(batch_size=500)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    list(module.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_is_pinned_for_gpus_only() -> None:
    module = on_rank(DigitsDataModule(), 1, 0)
    assert not module.train_dataloader().pin_memory
    module.trainer.strategy.root_device = torch.device("cuda", 0)
    assert module.train_dataloader().pin_memory


def test_every_tensor_of_a_batch_can_be_pinned() -> None:
    # Pinning copies into memory of the same strides, which fails where elements share memory.
    batch = next(iter(on_rank(DigitsDataModule(), 1, 0).train_dataloader()))
    tensors = [part for part in (*batch, *batch.parameters) if isinstance(part, torch.Tensor)]
    assert len(tensors) >= 10
    for tensor in tensors:
        pinned = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)
        assert torch.equal(pinned, tensor)


@pytest.mark.parametrize(
    "arguments",
    [{"batch_size": 0}, {"eval_batch_size": 0}, {"views": 1}, {"num_workers": -1}, {"image_size": 0}],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name} is {value}. It must be at least"):
        DigitsDataModule(**arguments)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="predict_split is 'val'"):
        DigitsDataModule(predict_split="val")


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size is 2000, but there are 1437 training samples"):
        DigitsDataModule(batch_size=2000).train_dataloader()
    with pytest.raises(ValueError, match="batch_size is 30, over all 4 process"):
        on_rank(DigitsDataModule(batch_size=30), 4, 0).train_dataloader()


# ------------------------------------------------------------------------------------------------------- command line


def test_options_of_all_levels_are_known_to_jsonargparse() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(TwoViewDataModule, "data")
    parsed = parser.parse_args(
        ["--data=rectified_lpjepa.data.DigitsDataModule", "--data.batch_size=64", "--data.augmentation.flip=0.25"]
    )
    module = parser.instantiate(parsed).data
    assert isinstance(module, DigitsDataModule)
    assert module.batch_size == 64
    assert module.augmentation.flip == 0.25
    assert module.augmentation.crop_scale == (0.5, 1.0)
    with pytest.raises(Exception, match="batch_sise"):
        parser.parse_args(["--data=rectified_lpjepa.data.CIFAR100DataModule", "--data.batch_sise=64"])
