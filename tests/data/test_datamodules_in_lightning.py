"""What Lightning does with the data modules: epochs, resumption, and every sample once."""

import warnings
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from tiny_jepa import quiet_trainer
from torch import Tensor, nn

from rectified_lpjepa.data import DigitsDataModule, ImageFolderDataModule, Views


def trainer_of(path: Path, epochs: int = 1) -> Trainer:
    return quiet_trainer(path, max_epochs=epochs, limit_train_batches=None, limit_val_batches=None, log_every_n_steps=1)


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


def test_lightning_leaves_the_sampler_alone_and_tells_it_the_epoch(tmp_path: Path) -> None:
    model, trainer = Recorder(), trainer_of(tmp_path, epochs=3)
    trainer.fit(model, datamodule=DigitsDataModule(train_samples=40, batch_size=16))
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
    trainer_of(tmp_path, epochs=2).fit(whole, datamodule=files())
    trainer = trainer_of(tmp_path)
    trainer.fit(Recorder(), datamodule=files())
    trainer.save_checkpoint(tmp_path / "one.ckpt")

    class AsksForStepsEarly(Recorder):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            assert self.trainer.estimated_stepping_batches == 4  # makes Lightning start the loader at once
            return super().configure_optimizers()

    resumed = AsksForStepsEarly()
    trainer = trainer_of(tmp_path, epochs=2)
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


def test_validate_test_and_predict_see_every_sample_once(tmp_path: Path) -> None:
    trainer, model = trainer_of(tmp_path), Recorder()
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
