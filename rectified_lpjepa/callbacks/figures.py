"""Draw the figures of a run while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from matplotlib.figure import Figure
from torch import Tensor
from typing_extensions import override

from rectified_lpjepa import plots
from rectified_lpjepa.distributions import Law

_NAN = float("nan")


class Representation(Protocol):
    """What the figures need of the module they are drawn for."""

    @property
    def law(self) -> Law | None:
        """Distribution of one coordinate of the target; None if there is none."""
        ...

    def validation_features(self) -> Tensor | None:
        """Features of shape (N, D), float32, on the CPU, of the last validation."""
        ...


class FigureWriter(pl.Callback):
    """Write the figures of a run to ``figures/`` in its directory, and to TensorBoard if it is logged to.

    ``feature_histogram.png`` and ``projected_marginals.png`` show the features of the last validation against the
    target; ``sparsity.png``, ``loss_terms.png`` and ``probe_accuracy.png`` show the run so far. The history behind
    these is kept in the checkpoint, so a resumed run draws whole curves, and ``validate`` with a checkpoint draws them,
    too. What there is not (no labels, no validation, no target) is not drawn.

    Args:
        every_n_epochs: number of epochs between two drawings. The figures are drawn at the end of training in any case.

    Raises:
        ValueError: if ``every_n_epochs`` is smaller than one.
    """

    def __init__(self, every_n_epochs: int = 10) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"FigureWriter(every_n_epochs={every_n_epochs}) must be at least 1.")
        self.every_n_epochs = every_n_epochs
        self.epochs: list[float] = []
        self.history: dict[str, list[float]] = {}
        self._validated: dict[str, float] = {}
        self._drawn_at = -1

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._validated = _scalars(trainer.callback_metrics, "val/")
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._draw(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # On every process, not only where it is drawn: the first look at an epoch's means can be a collective.
        # Metrics of an earlier validation linger in there, so those of this epoch come from `on_validation_end`.
        metrics = _scalars(trainer.callback_metrics, "train/") | self._validated
        self._validated = {}
        self._record(trainer.current_epoch + 1, metrics)
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._drawn_at != trainer.global_step:
            self._draw(trainer, pl_module)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"epochs": list(self.epochs), "history": {name: list(values) for name, values in self.history.items()}}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])
        self.history = {name: list(values) for name, values in state_dict["history"].items()}

    def _record(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append one epoch; every series stays as long as ``epochs``, with NaN where it has no value."""
        for name in self.history | dict(metrics):  # not a set: the order is the same in every process and run
            series = self.history.setdefault(name, [_NAN] * len(self.epochs))
            series.append(metrics.get(name, _NAN))
        self.epochs.append(float(epoch))

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._drawn_at = trainer.global_step
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in self._figures(cast("Representation", pl_module)).items():
            figure.savefig(folder / f"{name}.png")
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(f"figures/{name}", figure, trainer.global_step, close=False)

    def _figures(self, module: Representation) -> dict[str, Figure]:
        figures: dict[str, Figure] = {}
        z = module.validation_features()
        if z is not None:
            figures["feature_histogram"] = plots.feature_histogram(z, module.law)
            if module.law is not None:
                figures["projected_marginals"] = plots.projected_marginals(z, module.law)
        terms = {
            term: values
            for name, values in self.history.items()
            if (term := name.removeprefix("train/")) != name and not term.startswith("probe_")
        }
        if terms:
            figures["loss_terms"] = plots.loss_terms(self.epochs, terms)
        if "val/sparsity/l0" in self.history:
            figures["sparsity"] = plots.sparsity_over_time(
                self.epochs, self.history["val/sparsity/l0"], self.history.get("val/sparsity/l0_target")
            )
        if any("/probe_" in name for name in self.history):
            figures["probe_accuracy"] = plots.probe_accuracy(self.epochs, self.history)
        return figures


def _scalars(metrics: Mapping[str, Tensor], prefix: str) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if name.startswith(prefix)}
