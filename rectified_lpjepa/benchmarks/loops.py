"""Training loops without a framework, as sides of a comparison: the same work bare, and the published style.

Shape suffixes: V views, B samples, C channels, S side of an image, D features.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import repeat

import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from rectified_lpjepa.benchmarks.loss import published_style
from rectified_lpjepa.benchmarks.torchvision_recipe import torchvision_recipe
from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.data.batches import Batch, Views
from rectified_lpjepa.data.images import InMemoryImages
from rectified_lpjepa.functional import random_directions
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import features_with_crops
from rectified_lpjepa.objectives import RDMReg

_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_VIEWS = 2  # of the published style


class Loop:
    """What both loops have in common: a model, its optimiser with the schedule, and the precision.

    Args:
        model: a fresh model, moved to the device and trained in place.
        precision: Lightning's name of it; ``16-mixed``, ``bf16-mixed``, or anything else for none.
        total_steps: length of the schedule.
        steps_per_epoch: batches of an epoch.
        device: where the model runs.
    """

    def __init__(
        self, model: RectifiedLpJEPA, precision: str, total_steps: int, steps_per_epoch: int, device: torch.device
    ) -> None:
        self.model = model.to(device).train()
        self.device = device
        self.dtype = _MIXED.get(precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.optimizer, self.scheduler = model.optimizer_settings.build(
            {"backbone": model.backbone, "projector": model.projector},
            dict(model.probes.items()),
            total_batch=model.batch_size,
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
        )

    def autocast(self) -> AbstractContextManager[None]:
        """Give the context of the forward pass."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def descend(self, loss: Tensor) -> None:
        """Make an optimiser step along the gradient of a loss."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()

    def probe_losses(self, encoder_VBF: Tensor, projector_VBD: Tensor, labels: Tensor) -> list[Tensor]:
        """Compute the cross-entropy of each probe."""
        features = {"encoder": encoder_VBF, "projector": projector_VBD}
        return [probe.loss(probe(features[name]), labels) for name, probe in self.model.probes.items()]  # type: ignore[operator]


class BareLoop(Loop):
    """What ``fit`` computes in a step and nothing else: no log, no metric, no check, no progress bar.

    Its parts can be run one by one: :meth:`load`, :meth:`view` and :meth:`train`.
    """

    def __init__(
        self,
        model: RectifiedLpJEPA,
        data: TwoViewDataModule,
        precision: str,
        total_steps: int,
        steps_per_epoch: int,
        device: torch.device,
    ) -> None:
        super().__init__(model, precision, total_steps, steps_per_epoch, device)
        self.data = data
        loader = data.train_dataloader()
        self._batches = (batch for epoch in repeat(loader) for batch in epoch)

    def load(self) -> Batch:
        """Take the next batch from the loader and move it to the device."""
        batch: Batch = move_data_to_device(next(self._batches), self.device)
        return batch

    def view(self, batch: Batch) -> Views:
        """Make the views of a batch."""
        views: Views = self.data.on_after_batch_transfer(batch, 0)
        return views

    def train(self, views: Views) -> None:
        """Forward, loss, backward, optimiser and schedule on the views of a batch."""
        model = self.model
        with self.autocast():
            features, z_VBD = features_with_crops(model, views.images, views.local, model.view_passes)
            loss = model.objective(
                z_VBD,
                z_VBD,
                seed=model.seed,
                step=views.number,
                labels=views.labels,
                global_views=len(views.images),
            ).loss
            loss = loss + sum(self.probe_losses(features.encoder, features.projector, views.labels))
        self.descend(loss)

    def run(self, steps: int) -> None:
        """Make several steps."""
        for _ in range(steps):
            self.train(self.view(self.load()))


class PublishedLoop(Loop):
    """The same model in the style of published code.

    PIL images and torchvision's transforms in worker processes, one forward pass for each view, the loss of
    :func:`~rectified_lpjepa.benchmarks.loss.published_style` with its own draw for each view, and every logged value
    fetched by ``item()`` in every step.

    Raises:
        ValueError: the model has another objective than RDMReg or another rectifier than relu, or the data have
            another number of views than two.
    """

    def __init__(
        self,
        model: RectifiedLpJEPA,
        data: TwoViewDataModule,
        precision: str,
        total_steps: int,
        steps_per_epoch: int,
        device: torch.device,
        workers: int,
    ) -> None:
        if not isinstance(model.objective, RDMReg):
            raise ValueError(
                f"The published-style loop has the loss of RDMReg alone, the model has {type(model.objective).__name__}"
                ". HINT: give `benchmark step` a configuration with RDMReg."
            )
        if model.objective.directions.kind != "random" or model.objective.axes.weight:
            raise ValueError(
                "The published-style loop has random directions and no axes, the model has directions of the kind "
                f"{model.objective.directions.kind} and axes of weight {model.objective.axes.weight:g}. HINT: set "
                "`directions.kind: random` and `axes.weight: 0` in the configuration of `benchmark step`."
            )
        if model.rectifier != "relu":
            raise ValueError(
                f"The published-style loop has the rectifier relu alone, the model has {model.rectifier}. HINT: set "
                "`model.rectifier: relu` in the configuration of `benchmark step`."
            )
        if data.views != _VIEWS or data.local_crops.num:
            raise ValueError(
                f"The published-style loop has {_VIEWS} views of each image, the data have {data.views} and "
                f"{data.local_crops.num} local crops. HINT: set `views: {_VIEWS}` and `local_crops: {{num: 0}}` for "
                "the data in the configuration of `benchmark step`."
            )
        super().__init__(model, precision, total_steps, steps_per_epoch, device)
        self.objective = model.objective
        images = data.images("train")
        assert isinstance(images, InMemoryImages)
        statistics = model.mean.flatten().tolist(), model.std.flatten().tolist()
        transform = torchvision_recipe(data.augmentation, data.image_size, *statistics)
        self._images = _PillowViews(images, transform)
        self._workers = workers

    def run(self, steps: int) -> float:
        """Make several steps, and give the seconds that they take once all workers are under way.

        No worker goes on when it returns, so that none takes anything from what is timed next.
        """
        count = (self._workers + steps) * self.model.batch_size
        chosen = torch.randint(len(self._images), (count,)).tolist()
        loader = DataLoader(
            Subset(self._images, chosen),
            batch_size=self.model.batch_size,
            num_workers=self._workers,
            pin_memory=self.device.type == "cuda",
        )
        start = 0.0
        for number, (views, labels) in enumerate(loader):
            if number == self._workers:
                start = time.perf_counter()
            self._step([view.to(self.device, non_blocking=True) for view in views], labels.to(self.device))
        return time.perf_counter() - start

    def _step(self, views: list[Tensor], labels: Tensor) -> dict[str, float]:
        objective = self.objective
        with self.autocast():
            # The model normalises; here the workers have done it.
            encoder = [self.model.backbone(view.contiguous(memory_format=torch.channels_last)) for view in views]
            z = [self.model.projector(features).relu() for features in encoder]
            probe_losses = self.probe_losses(torch.stack(encoder), torch.stack(z), labels)
        z_VBD = torch.stack(z).float()
        invariance = (z_VBD[0] - z_VBD[1]).square().mean()
        directions = random_directions(objective.directions.num, z_VBD.shape[-1], device=self.device)
        targets = objective.target.sample(tuple(z_VBD.shape), device=self.device)
        distance = published_style(z_VBD, targets, directions)
        loss = objective.invariance_weight * invariance + objective.distribution_weight * distance
        self.descend(loss + sum(probe_losses))
        terms = {"loss": loss, "invariance": invariance, "rdmreg": distance}
        terms |= {f"probe {number}": value for number, value in enumerate(probe_losses)}
        return {name: value.item() for name, value in terms.items()}


class _PillowViews(Dataset[tuple[list[Tensor], int]]):
    """Two views of each image (C, S, S), made one by one, and its label."""

    def __init__(self, images: InMemoryImages, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images = images.images.permute(0, 2, 3, 1).squeeze(-1).contiguous().numpy()
        self.labels = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        image = Image.fromarray(self.images[index])
        return [self.transform(image) for _ in range(_VIEWS)], self.labels[index]
