"""The base of the data modules on digits and CIFAR: loaders, views, subsets, and what Lightning does with them."""

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from rectified_lpjepa.data import (
    Augmentation,
    Batch,
    CIFAR10DataModule,
    CIFAR100DataModule,
    DigitsDataModule,
    ImageFolderDataModule,
    TwoViewDataModule,
    Views,
)
from rectified_lpjepa.data.augmentations import augment
from rectified_lpjepa.data.image_ops import fit_square
from rectified_lpjepa.data.images import InMemoryImages
from rectified_lpjepa.functional.randomness import keyed_generator

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def on_rank(module: TwoViewDataModule, world: int, rank: int) -> TwoViewDataModule:
    module.trainer = Mock(world_size=world, global_rank=rank)
    module.trainer.strategy.root_device = torch.device("cpu")
    return module


def views_of(module: TwoViewDataModule, batch: Batch) -> Views:
    views = module.on_after_batch_transfer(batch, 0)
    assert isinstance(views, Views)
    return views


class Recorder(LightningModule):
    """Learns nothing to speak of, and remembers the batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.train_batches: list[Views] = []
        self.evaluated: list[Views] = []

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        self.train_batches.append(batch)
        return self.layer(batch.images.mean().view(1)).sum()

    def validation_step(self, batch: Views, batch_idx: int) -> None:
        self.evaluated.append(batch)

    test_step = validation_step

    def predict_step(self, batch: Views, batch_idx: int) -> Tensor:
        return batch.indices

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


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


# ---------------------------------------------------------------------------------------------------------- Lightning


def fit(epochs: int, **arguments: Any) -> tuple[Recorder, Trainer]:
    module, trainer = Recorder(), Trainer(max_epochs=epochs, log_every_n_steps=1, **QUIET)
    trainer.fit(module, datamodule=DigitsDataModule(train_samples=40, batch_size=16, **arguments))
    return module, trainer


def test_lightning_leaves_the_sampler_alone_and_tells_it_the_epoch() -> None:
    model, trainer = fit(3)
    batches = model.train_batches
    assert [batch.number for batch in batches] == [0, 1, 2, 3, 4, 5]
    assert type(trainer.train_dataloader.sampler).__name__ == "GlobalBatchSampler"
    assert type(trainer.val_dataloaders.sampler).__name__ == "EvaluationSampler"
    module = trainer.datamodule
    for epoch in range(3):
        sampler = module.train_dataloader().sampler
        sampler.set_epoch(epoch)
        expected = [request.indices for request in sampler]
        assert [batch.indices.tolist() for batch in batches[2 * epoch : 2 * epoch + 2]] == expected
    assert len({tuple(batch.indices.tolist()) for batch in batches}) == 6
    # The sanity check sees at most two batches (here one of 360), each epoch all of them.
    assert torch.cat([views.indices for views in model.evaluated]).tolist() == list(range(360)) * 4


def test_the_epoch_of_a_resumed_run_reaches_loaders_with_workers(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (44, 8, 8, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        folder = tmp_path / "images" / ("train" if number < 40 else "val")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")

    def files() -> ImageFolderDataModule:
        return ImageFolderDataModule(str(tmp_path / "images"), image_size=8, batch_size=16, num_workers=1)

    whole = Recorder()
    Trainer(max_epochs=2, log_every_n_steps=1, **QUIET).fit(whole, datamodule=files())
    trainer = Trainer(max_epochs=1, log_every_n_steps=1, **QUIET)
    trainer.fit(Recorder(), datamodule=files())
    trainer.save_checkpoint(tmp_path / "one.ckpt")

    class AsksForStepsEarly(Recorder):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            assert self.trainer.estimated_stepping_batches == 4  # makes Lightning start the loader at once
            return super().configure_optimizers()

    resumed = AsksForStepsEarly()
    trainer = Trainer(max_epochs=2, log_every_n_steps=1, **QUIET)
    trainer.fit(resumed, datamodule=files(), ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    assert [batch.number for batch in resumed.train_batches] == [2, 3]
    for got, wanted in zip(resumed.train_batches, whole.train_batches[2:], strict=True):
        assert torch.equal(got.images, wanted.images)


def test_loaders_leave_the_filters_of_warnings_alone() -> None:
    module = DigitsDataModule()
    before = list(warnings.filters)
    for loader in (module.train_dataloader(), module.val_dataloader(), module.predict_dataloader()):
        next(iter(loader))
    assert warnings.filters == before


def test_validate_test_and_predict_see_every_sample_once() -> None:
    trainer, model = Trainer(**QUIET), Recorder()
    module = DigitsDataModule(eval_batch_size=100)
    trainer.validate(model, datamodule=module, verbose=False)
    trainer.test(model, datamodule=module, verbose=False)
    indices = torch.cat([views.indices for views in model.evaluated])
    assert indices.tolist() == list(range(360)) * 2
    predicted = trainer.predict(model, datamodule=module)
    assert torch.cat(predicted).tolist() == list(range(360))


def test_what_is_no_batch_of_ours_passes_through() -> None:
    tensor = torch.zeros(3)
    assert DigitsDataModule().on_after_batch_transfer(tensor, 0) is tensor


# -------------------------------------------------------------------------------------------------------------- CIFAR


@pytest.fixture
def cifar_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny CIFAR-100 as torchvision lays it out, with checksums to match."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    generator = np.random.default_rng(0)

    def write(name: str, content: dict[str, Any]) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    checksums = {
        name: write(
            name,
            {
                "data": generator.integers(0, 256, (count, 3072), dtype=np.uint8),
                "fine_labels": generator.integers(0, 100, count).tolist(),
            },
        )
        for name, count in (("train", 12), ("test", 6))
    }
    meta = write("meta", {"fine_label_names": [f"class {number}" for number in range(100)]})
    torchvision_class = CIFAR100DataModule._torchvision
    monkeypatch.setattr(torchvision_class, "train_list", [["train", checksums["train"]]])
    monkeypatch.setattr(torchvision_class, "test_list", [["test", checksums["test"]]])
    monkeypatch.setattr(torchvision_class, "meta", {"filename": "meta", "key": "fine_label_names", "md5": meta})
    return tmp_path


def test_cifar_is_read_as_stored(cifar_tree: Path) -> None:
    module = CIFAR100DataModule(root=str(cifar_tree), batch_size=4)
    module.prepare_data()
    module.setup("fit")
    stored = pickle.loads((cifar_tree / "cifar-100-python" / "train").read_bytes())
    images = module.images("train")
    assert images.images.dtype == torch.uint8
    # CIFAR's rows hold the red, the green and the blue plane one after the other.
    assert np.array_equal(images.images.numpy(), stored["data"].reshape(-1, 3, 32, 32))
    assert images.labels.tolist() == stored["fine_labels"]
    views = views_of(module, next(iter(module.train_dataloader())))
    assert views.images.shape == (2, 4, 3, 32, 32)
    assert len(module.images("test").labels) == 6


@pytest.mark.parametrize(
    ("kind", "classes", "mean", "std"),
    [
        (CIFAR10DataModule, 10, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        (CIFAR100DataModule, 100, [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    ],
)
def test_cifar_knows_its_facts_without_the_data(
    kind: type[CIFAR10DataModule], classes: int, mean: list[float], std: list[float]
) -> None:
    module = kind(root="nowhere")
    assert (module.num_classes, module.in_channels, module.image_size) == (classes, 3, 32)
    assert (module.mean, module.std) == (mean, std)
    assert module.augmentation == Augmentation()
    assert module.augmentation.blur == 0


@pytest.mark.parametrize("kind", [CIFAR10DataModule, CIFAR100DataModule])
def test_missing_cifar_names_the_command_that_gets_it(kind: type[CIFAR10DataModule], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"rectified-lpjepa fit .*--data\.download true") as error:
        kind(root=str(tmp_path)).setup("fit")
    assert str(tmp_path) in str(error.value)


def test_damaged_cifar_is_not_unpickled(cifar_tree: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("a file with a wrong checksum was unpickled",))

    (cifar_tree / "cifar-100-python" / "train").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="checksum"):
        CIFAR100DataModule(root=str(cifar_tree)).setup("fit")


def test_cifar_downloads_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        CIFAR10DataModule, "_torchvision", Mock(side_effect=lambda *args, **kwargs: calls.append((args, kwargs)))
    )
    CIFAR10DataModule(root=str(tmp_path)).prepare_data()
    assert not calls
    CIFAR10DataModule(root=str(tmp_path), download=True).prepare_data()
    assert calls == [((str(tmp_path),), {"download": True})]


# ------------------------------------------------------------------------------------------------------- command line


def test_options_of_all_levels_are_known_to_jsonargparse() -> None:
    from jsonargparse import ArgumentParser

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
