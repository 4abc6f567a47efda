"""A training step of ``fit`` against a bare loop and a loop in the published style, and where its time goes.

rectified-lpjepa benchmark step
"""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_sample_images
from typing_extensions import override

from rectified_lpjepa.benchmarks.loops import BareLoop, PublishedLoop
from rectified_lpjepa.benchmarks.measure import Spread, Timings, choose_device, time_in_turn
from rectified_lpjepa.benchmarks.report import Cell, report
from rectified_lpjepa.cli import CLI
from rectified_lpjepa.machine import available_cores

BASELINE = (
    "bare: the same model, views, loss, probes, optimiser and schedule in a plain loop without log, metrics, checks "
    "and progress bar; published: PIL images and torchvision's transforms in one worker process for each core, one "
    "forward pass for each view, the plain loss of `benchmark loss`, each logged value fetched by item() in every "
    "step; both in turn with fit as the command line builds it, validation and the ends of epochs left out"
)
RECIPES = {"cpu": "cifar100_small", "cuda": "cifar100_resnet18"}
# With the paper's loss, which is what the published style has.
OPTIONS = ("--model.objective.init_args.directions.kind=random", "--model.objective.init_args.axes.weight=0")
FIT, BARE, LOADER, VIEWS, MODEL, PUBLISHED = "fit", "bare", "loader", "views", "model", "published"
LABELS = {
    BARE: "bare loop",
    FIT: "fit",
    LOADER: "  its loader alone",
    VIEWS: "  its views alone",
    MODEL: "  its model alone, on synthetic views",
    PUBLISHED: "published-style loop",
}
_TURN = 5
_EPOCHS, _IMAGES = 1000, 50_000  # of the estimate: the published schedule on CIFAR-100
_TILE, _STRIDE, _CLASSES = 32, 6, 100


class Side(NamedTuple):
    """What is timed in turn with ``fit``."""

    run: Callable[[int], object]
    """Makes so many steps, and returns the seconds where the caller's clock would not be right."""
    steps: int
    """Steps in each turn."""
    once: bool = False
    """Whether it has one turn in a round, not as many as fit."""


class InTurn(Callback):
    """Interrupts training every few steps to run the other sides, and keeps the seconds per step of all of them.

    A round holds ``log_every_n_steps`` steps of fit, so that each has its share of what is done once in so many steps.
    Before the first round each side has a turn that does not count.

    Args:
        sides: makes the other sides, by name, when training has started.
        repeats: number of rounds.
    """

    def __init__(self, sides: Callable[[], Mapping[str, Side]], repeats: int) -> None:
        self.make_sides = sides
        self.repeats = repeats
        self.rounds: dict[str, list[float]] = {FIT: []}
        self._spent: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._since = 0.0
        self._pending = 0
        self._is_warm = False

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sides = self.make_sides()
        self.rounds |= {side: [] for side in self.sides}

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = self._now(trainer)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._pending += 1
        if self._pending < _TURN and not trainer.is_last_batch:
            return
        self._add(FIT, self._now(trainer) - self._since, self._pending)
        self._pending = 0
        for name, side in self.sides.items():
            if not (side.once and name in self._spent):
                start = self._now(trainer)
                seconds = side.run(side.steps)
                self._add(name, seconds if isinstance(seconds, float) else self._now(trainer) - start, side.steps)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it
        if self._is_warm and self._steps[FIT] >= every:
            for name, seconds in self._spent.items():
                self.rounds[name].append(seconds / self._steps[name])
            trainer.should_stop = len(self.rounds[FIT]) >= self.repeats
        if not self._is_warm or self._steps[FIT] >= every:
            self._is_warm, self._spent, self._steps = True, {}, {}
        self._since = self._now(trainer)

    def _add(self, side: str, seconds: float, steps: int) -> None:
        self._spent[side] = self._spent.get(side, 0.0) + seconds
        self._steps[side] = self._steps.get(side, 0) + steps

    @staticmethod
    def _now(trainer: Trainer) -> float:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        return time.perf_counter()


class _Built(CLI):
    """Builds model, data and trainer as ``rectified-lpjepa fit`` does, and leaves it to the caller to train."""

    @override
    def fit(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Do nothing yet."""


def step(
    config: str | None = None,
    data: str | None = None,
    repeats: int = 5,
    device: str = "auto",
    out: str = "runs/benchmarks",
) -> None:
    """Time ``fit`` with all its logging against a bare loop, its parts alone, and the published style end to end.

    Args:
        config: configuration of the run; by default that of a small CIFAR-100 run on a CPU, of ResNet-18 on a GPU, with
            the paper's loss.
        data: an .npz file for NpzDataModule; by default 32 × 32 tiles of scikit-learn's two sample photographs.
        repeats: rounds that count.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is a GPU.
        out: folder for the JSON file.

    Raises:
        ValueError: ``repeats`` is below 1, or the published-style loop lacks something that the configuration asks for.
    """
    place = choose_device(device)
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}. A measurement needs at least 1 round.")
    with tempfile.TemporaryDirectory() as folder:
        chosen = [config] if config else [RECIPES[place.type], *OPTIONS]
        built = _build(chosen, data, Path(folder), place)
        timings = _time(built, repeats, place)
    help_timings = time_in_turn({"help": _help, "imports": _imports}, repeats=repeats)
    rows = _rows(timings, built.datamodule.batch_size)
    rows += [
        _row("rectified-lpjepa --help", help_timings, "help", against=("imports", "imports below")),
        _row("import lightning.pytorch.cli, torchvision", help_timings, "imports"),
    ]
    report("step", BASELINE, rows, device=place, out=out, conclusion=_conclusion(timings, built))


def _build(config: Sequence[str], data: str | None, folder: Path, device: torch.device) -> _Built:
    arguments = ["fit", "--config", *config, "--run.dir", str(folder / "run"), "--trainer.devices=1"]
    arguments += [f"--trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}"]
    arguments += [f"--trainer.max_epochs={_EPOCHS}", "--trainer.limit_val_batches=0"]
    arguments += ["--data=NpzDataModule", f"--data.path={data or _write_tiles(folder / 'tiles.npz')}"]
    if data is None:
        arguments += ["--data.train_samples=null"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # the program's own arguments are another's
        return _Built(arguments)


def _write_tiles(path: Path) -> Path:
    """Cut scikit-learn's photographs into overlapping tiles; the labels mean nothing."""
    windows = [
        sliding_window_view(photograph, (_TILE, _TILE, 3))[::_STRIDE, ::_STRIDE].reshape(-1, _TILE, _TILE, 3)
        for photograph in load_sample_images().images
    ]
    tiles = np.concatenate(windows)
    labels = np.arange(len(tiles)) % _CLASSES
    np.savez(path, x_train=tiles, y_train=labels, x_test=tiles[:_CLASSES], y_test=labels[:_CLASSES])
    return path


def _time(built: _Built, repeats: int, device: torch.device) -> Timings:
    fresh = _compiled_as(built.model, copy.deepcopy(built.model)), copy.deepcopy(built.model)
    in_turn = InTurn(lambda: _sides(built, *fresh, device), repeats)
    built.trainer.callbacks.append(in_turn)  # type: ignore[attr-defined]  # a connector sets it
    built.trainer.fit(built.model, built.datamodule)
    return Timings(in_turn.rounds)


def _compiled_as(model: Any, duplicate: Any) -> Any:
    """Compile what is compiled in a model in its copy, too: copying leaves the compilation out."""
    for name in ("backbone", "projector"):
        if getattr(model, name)._compiled_call_impl is not None:
            getattr(duplicate, name).compile()
    return duplicate


def _sides(built: _Built, one: Any, other: Any, device: torch.device) -> dict[str, Side]:
    """Make the sides beside fit, each of the loops with a model of its own."""
    trainer, data = built.trainer, built.datamodule
    schedule = (int(trainer.estimated_stepping_batches), int(trainer.num_training_batches))
    precision = str(trainer.precision)
    bare = BareLoop(one, data, precision, *schedule, device)
    batch = bare.load()
    synthetic = bare.view(batch)
    synthetic = synthetic._replace(images=torch.rand_like(synthetic.images))

    def single(action: Callable[[], object]) -> Side:
        return Side(lambda _: action(), 1)

    workers = available_cores()
    published = PublishedLoop(other, data, precision, *schedule, device, workers)
    return {
        BARE: Side(bare.run, _TURN),
        LOADER: single(bare.load),
        VIEWS: single(lambda: bare.view(batch)),
        MODEL: single(lambda: bare.train(synthetic)),
        PUBLISHED: Side(published.run, 4 + 2 * workers, once=True),
    }


def _help() -> None:
    subprocess.run([sys.executable, "-m", "rectified_lpjepa", "--help"], check=True, stdout=subprocess.DEVNULL)


def _imports() -> None:
    subprocess.run([sys.executable, "-c", "import lightning.pytorch.cli, torchvision"], check=True)


def _rows(timings: Timings, batch: int) -> list[dict[str, Cell]]:
    against = {FIT: (BARE, "bare loop"), PUBLISHED: (FIT, "fit")}
    against |= dict.fromkeys((LOADER, VIEWS, MODEL), (FIT, "fit"))
    return [_row(label, timings, side, against=against.get(side), batch=batch) for side, label in LABELS.items()]


def _row(
    label: str, timings: Timings, side: str, against: tuple[str, str] | None = None, batch: int | None = None
) -> dict[str, Cell]:
    seconds = timings.rounds[side]
    return {
        "what": label,
        "ms": Spread.of([1000 * value for value in seconds]),
        "images/s": "" if batch is None else Spread.of([batch / value for value in seconds]),
        "ratio": "" if against is None else timings.ratio(side, against[0]),
        "to": "" if against is None else against[1],
    }


def _conclusion(timings: Timings, built: _Built) -> str:
    """Name the bottleneck, and say how long the published schedule would take."""
    shares = {part: timings.ratio(part, FIT).median for part in (LOADER, VIEWS, MODEL)}
    slowest = max(shares, key=lambda part: shares[part])
    what = {LOADER: "the loader", VIEWS: "making the views", MODEL: "the model (forward, loss, backward, optimiser)"}
    rate = built.datamodule.batch_size / timings.seconds(FIT).median
    return (
        f"The bottleneck is {what[slowest]} with {shares[slowest]:.0%} of fit's time per step. At {rate:,.0f} images/s "
        f"{_EPOCHS} epochs of {_IMAGES:,} images take {_EPOCHS * _IMAGES / rate / 3600:.3g} hours."
    )
