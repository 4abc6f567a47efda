"""A module that logs the names a real run logs, on numbers that cost nothing."""

from collections.abc import Iterator

import lightning.pytorch as pl
import torch
from torch import Tensor

from rectified_lpjepa.distributions import RectifiedGeneralizedGaussian

NAN = float("nan")


class TinyModule(pl.LightningModule):
    """A linear map with a loss of two terms; momentum and a falling rate give a resumed run something to restore."""

    def __init__(self, bad_step: int | None = None, bad_term: str = "rdmreg", bad_rank: int = 0, labels: bool = True):
        super().__init__()
        self.map = torch.nn.Linear(4, 8)
        torch.nn.init.normal_(self.map.weight, generator=torch.Generator().manual_seed(0))
        torch.nn.init.zeros_(self.map.bias)
        self.bad_step, self.bad_term, self.bad_rank, self.labels = bad_step, bad_term, bad_rank, labels
        self.law = RectifiedGeneralizedGaussian(2.0, 0.0, 1.0)
        self.features: list[Tensor] = []

    def validation_features(self) -> Tensor | None:
        return torch.cat(self.features) if self.features else None

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor | dict[str, Tensor]]:
        z = self.map(batch).relu()
        terms = {"invariance": z.var(), "rdmreg": z.square().mean()}
        if self.global_step == self.bad_step and self.global_rank == self.bad_rank:
            terms[self.bad_term] = terms[self.bad_term] * NAN
        loss = 25 * terms["invariance"] + 125 * terms["rdmreg"]
        terms = {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}
        for name, value in terms.items():
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch))
            self.log(f"step/{name}", value, on_step=True, on_epoch=False)
        return {"loss": loss, "terms": terms}

    def on_validation_epoch_start(self) -> None:
        self.features = []

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        z = self.map(batch).relu()
        self.features.append(z.detach())
        metrics = {"val/sparsity/l0": (z > 0).float().mean(), "val/sparsity/l0_target": torch.tensor(0.5)}
        if self.labels:
            metrics |= {"val/probe_encoder/top1": (z[:, 0] > 0).float().mean(), "val/probe_projector/top1": z.mean()}
        self.log_dict(metrics, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch))

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[dict[str, object]]]:
        groups = [{"params": [self.map.weight], "name": "backbone"}, {"params": [self.map.bias], "name": "probe"}]
        optimizer = torch.optim.SGD(groups, lr=1e-3, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Batches:
    """As good as a loader for Lightning, without its advice about workers."""

    def __init__(self, batches: list[Tensor]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)


def batches(count: int, seed: int = 0) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    return Batches([torch.randn(6, 4, generator=generator) for _ in range(count)])


def tiny_trainer(path: object, callbacks: list[pl.Callback], max_epochs: int = 2, **arguments: object) -> pl.Trainer:
    """A quiet trainer on one CPU whose run directory is ``path``."""
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 1,
        "log_every_n_steps": 3,
    }
    return pl.Trainer(default_root_dir=path, max_epochs=max_epochs, callbacks=callbacks, **(defaults | arguments))


def fit(trainer: pl.Trainer, module: pl.LightningModule, ckpt_path: object = None) -> pl.LightningModule:
    trainer.fit(module, batches(4), batches(2, seed=1), ckpt_path=ckpt_path)
    return module
