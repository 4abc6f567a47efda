"""The LightningModule of the model: views → backbone → projector → rectifier → objective, with linear probes.

Shape suffixes: V views (global ones, and local crops after them), B samples of this process, C channels, S side of an
image, F encoder features, D projector's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from rectified_lpjepa.data.batches import Views
from rectified_lpjepa.distributed import AllGatherDDPStrategy, current_shard, mean_over_processes
from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.randomness import keyed_seed
from rectified_lpjepa.hyperparameters import plain_hyperparameters
from rectified_lpjepa.log_interval import is_logged_step, will_be_logged_step
from rectified_lpjepa.metrics import EvaluatedFeatures, RunningMeans
from rectified_lpjepa.networks import (
    VIEW_PASSES,
    Backbone,
    Features,
    Projector,
    Rectifier,
    ViewPasses,
    features_with_crops,
    rectify,
)
from rectified_lpjepa.objectives import Objective
from rectified_lpjepa.optim import Optimizer
from rectified_lpjepa.probe import OnlineProbes
from rectified_lpjepa.trainer_checks import check_processes, check_trainer


class RectifiedLpJEPA(LightningModule):
    """A joint-embedding model whose projector features follow a target distribution (arXiv 2602.01456).

    Two or more augmented views of each image pass the backbone, the projector and the rectifier, and so do its local
    crops, if there are any; the objective pulls the views together and the features' distribution to the target. Linear
    probes learn on detached encoder and projector features of the global views at the same time and never touch the
    model's gradients.

    Args:
        objective: loss on the projector features of all views, such as :class:`~rectified_lpjepa.objectives.RDMReg`.
        backbone: which timm model, and how it is built.
        projector: layers and widths of the projector.
        rectifier: what follows the projector: ``relu``; ``rep_relu`` (forward of ReLU, gradient of GELU);
            ``softplus_threshold``; ``gelu_relu``; ``none``. See :mod:`rectified_lpjepa.networks.rectifiers`.
        optimizer: optimiser, learning rates and schedule.
        view_passes: ``each`` sends every view through the network in a forward pass of its own, so that batch
            normalisation sees one view at a time (as the paper does); ``joint`` pools the statistics of all global
            views, and those of all local crops.
        num_classes: number of labels; None for unlabelled data, then there are no probes.
        image_size: side of the square images in pixels.
        local_size: side of the local crops in pixels; None for none.
        in_channels: number of image channels.
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel.
        batch_size: images of one batch over all processes.
        seed: seed of the run, from which every draw follows.
        compile: let torch.compile make backbone and projector faster, in place: checkpoints are the same with and
            without it, and it is no hyper-parameter of the model.

    Raises:
        ValueError: ``view_passes`` is neither, or a part cannot be built for these images.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        objective: Objective,
        backbone: Backbone = Backbone(),
        projector: Projector = Projector(),
        rectifier: Rectifier = "relu",
        optimizer: Optimizer = Optimizer(),
        view_passes: ViewPasses = "each",
        num_classes: int | None = None,
        image_size: int = 32,
        local_size: int | None = None,
        in_channels: int = 3,
        mean: list[float] = [0.0],  # noqa: B006 - a list, as configuration files give it; never changed
        std: list[float] = [1.0],  # noqa: B006
        batch_size: int = 256,
        seed: int = 0,
        compile: bool = False,  # noqa: A002 - as in torch.compile and nn.Module.compile
    ) -> None:
        # Of NumPy's numbers, too, a checkpoint could not be read without running code.
        mean, std = [float(value) for value in mean], [float(value) for value in std]
        kept = {name: value for name, value in dict(locals()).items() if name not in ("self", "__class__", "compile")}
        super().__init__()
        if view_passes not in VIEW_PASSES:
            raise ValueError(f"There are no view_passes {view_passes!r}. Choose one of {', '.join(VIEW_PASSES)}.")
        self.save_hyperparameters(plain_hyperparameters(**kept), logger=False)
        self.objective = objective
        self.optimizer_settings = optimizer
        self.rectifier: Rectifier = rectifier
        self.view_passes = view_passes
        self.local_size = local_size
        self.batch_size = batch_size
        self.seed = seed
        # The weights, too, are a function of the seed, whatever was drawn before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_seed(seed, "weights"))
            self.backbone = backbone.build(image_size, in_channels, local_size).to(memory_format=torch.channels_last)
            self.projector = projector.build(self.backbone.num_features)
            widths = {"encoder": self.backbone.num_features, "projector": projector.out_dim}
            self.probes = OnlineProbes({} if num_classes is None else widths, num_classes or 0)
        if compile:
            self.backbone.compile()
            self.projector.compile()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.train_means = RunningMeans()
        self.val_means = RunningMeans()
        self.evaluated = EvaluatedFeatures(projector.out_dim, self.law)

    @property
    def law(self) -> Law | None:
        """The distribution that each projector feature is asked to follow; None if it is asked for none."""
        return self.objective.law

    @override
    def forward(self, images: Tensor) -> Features:
        """Compute the features of images (B, C, S, S), floating point in [0, 1]; the model normalises."""
        normalised = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        encoder = self.backbone(normalised)
        preactivations = self.projector(encoder)
        return Features(encoder, preactivations, rectify(preactivations, self.rectifier))

    # ------------------------------------------------------------------------------------------------ training

    @override
    def setup(self, stage: str) -> None:
        # Lightning does so after it has read a checkpoint: float64 weights would have passed through float32 by then.
        self.trainer.precision_plugin.convert_module(self)
        if stage == "fit":
            check_trainer(
                self.trainer, objective=self.objective, batch_size=self.batch_size, local_size=self.local_size
            )

    @override
    def on_train_batch_start(self, batch: Views, batch_idx: int) -> None:
        # Dropout and drop-path draw from the global generator: they, too, become a function of seed, step and place.
        # Not by torch.manual_seed, which notes a traceback in each call for every kind of device that is not there.
        seed = keyed_seed(self.seed, "network", batch.number, self.trainer.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    @override
    def training_step(self, batch: Views, batch_idx: int) -> dict[str, Any]:
        features, z_VBD = features_with_crops(self, batch.images, batch.local, self.view_passes)
        strategy, shard = self.trainer.strategy, current_shard()
        gathered_VBD = z_VBD
        if self.objective.needs_gathering and isinstance(strategy, AllGatherDDPStrategy):
            gathered_VBD, shard = strategy.gather_views(z_VBD), strategy.shard
        output = self.objective(
            z_VBD,
            gathered_VBD,
            seed=self.seed,
            step=batch.number,
            shard=shard,
            labels=batch.labels,
            global_views=len(batch.images),
        )

        losses, accuracies = self.probes.measure(features._asdict(), batch.labels)
        loss = sum(losses.values(), start=output.loss)
        terms = {"loss": output.loss.detach(), **output.parts}
        terms |= {name: value.detach() for name, value in losses.items()}
        self.train_means.update(terms | accuracies, weight=len(batch.labels))
        self.train_means.log_once(self, "train")
        if will_be_logged_step(self.trainer, batch_idx):
            terms = mean_over_processes(terms)
        return {"loss": loss, "terms": terms}

    @override
    def on_train_batch_end(self, outputs: Any, batch: Views, batch_idx: int) -> None:
        # Lightning writes down what was logged last in these steps, and in the last one of a run that is stopped.
        is_logged = is_logged_step(self.trainer, batch_idx)
        if is_logged or self.trainer.should_stop:
            terms = outputs["terms"] if is_logged else mean_over_processes(outputs["terms"])
            self.log_dict({f"step/{name}": value for name, value in terms.items()}, on_step=True, on_epoch=False)

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        # Not steps divided by max_epochs: max_steps, too, can end a run, and then nobody has counted the batches yet.
        self.trainer.fit_loop.setup_data()
        batches_per_epoch = int(self.trainer.num_training_batches)
        total_steps = int(self.trainer.estimated_stepping_batches)
        optimizer, scheduler = self.optimizer_settings.build(
            {"backbone": self.backbone, "projector": self.projector},
            dict(self.probes.items()),
            total_batch=self._total_batch,
            total_steps=total_steps,
            steps_per_epoch=math.ceil(batches_per_epoch / self.trainer.accumulate_grad_batches),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def _total_batch(self) -> int:
        """Images of one optimiser step, over all processes and all accumulated batches."""
        return int(self.batch_size * self.trainer.accumulate_grad_batches)

    def facts(self) -> dict[str, Any]:
        """Say what decides the numbers of this run, as plain values by name; valid once training has started."""
        optimizer = self.trainer.optimizers[0]
        accumulated = self.trainer.accumulate_grad_batches
        seen = self.batch_size // (self.trainer.world_size if self.objective.is_per_process else 1)
        return {
            "backbone": self.hparams["backbone"]["name"],
            "parameters": {
                name: sum(parameter.numel() for parameter in self.get_submodule(name).parameters())
                for name in ("backbone", "projector", "probes")
            },
            **self.objective.description(),
            "optimizer": self.optimizer_settings.name,
            "images per step": self._total_batch,
            "loss taken over": f"{seen} images"
            + (f", the {accumulated} accumulated batches each by themselves" if accumulated > 1 else ""),
            "processes": self.trainer.world_size,
            "peak learning rates": {group["name"]: group["initial_lr"] for group in optimizer.param_groups},
            "steps": int(self.trainer.estimated_stepping_batches),
            "seed": self.seed,
        }

    # ---------------------------------------------------------------------------------------------- evaluation

    @override
    def on_validation_epoch_start(self) -> None:
        batches = self.trainer.num_test_batches if self.trainer.testing else self.trainer.num_val_batches
        self.evaluated.start(sum(batches))
        self.val_means.reset()

    @override
    def validation_step(self, batch: Views, batch_idx: int) -> None:
        features = self(batch.images)
        self.evaluated.update(features.projector.float())
        if self.probes:
            _, accuracies = self.probes.measure(features._asdict(), batch.labels)
            self.val_means.update(accuracies, weight=len(batch.labels))

    @override
    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.evaluated.keep_rows()
        split = "test" if self.trainer.testing else "val"
        metrics = (self.val_means.compute() if self.probes else {}) | self.evaluated.compute()
        # They are the same on all processes already; without the flag Lightning would warn that they might not be.
        self.log_dict({f"{split}/{name}": value for name, value in metrics.items()}, sync_dist=True)

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def validation_features(self) -> Tensor | None:
        """Return up to 4096 rows of this process's z, evenly over the last evaluation: float32 (n, D) on the CPU."""
        return self.evaluated.rows

    @override
    def predict_step(self, batch: Views, batch_idx: int) -> dict[str, Tensor]:
        features = self(batch.images)
        return {**features._asdict(), "labels": batch.labels, "indices": batch.indices}

    # ---------------------------------------------------------------------------------------------- resumption

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_means"] = self.train_means.state_of_all()
        if self.objective.is_per_process:
            checkpoint["processes"] = self.trainer.world_size

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trainer = self._trainer
        place = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        self.train_means.restore(checkpoint.get("train_means", {}), *place)
        if trainer is not None and trainer.training:
            check_processes(trainer, self.objective, before=checkpoint.get("processes"))

    @override
    def on_train_start(self) -> None:
        if self.trainer.fit_loop.restarted_mid_epoch:
            # Lightning would do so itself, had the loader not been there for the schedule's sake before the checkpoint.
            self.trainer.fit_loop._load_combined_loader_states()
        # What was configured counts, not what a checkpoint brought along (the same, unless the run was forked).
        if self.trainer.ckpt_path is not None:
            optimizer, scheduler = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
            assert isinstance(scheduler, LambdaLR)
            self.optimizer_settings.reapply(optimizer, scheduler, total_batch=self._total_batch)
