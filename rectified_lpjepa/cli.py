"""The command line: ``rectified-lpjepa fit|validate|test|predict --config …``, on LightningCLI."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from rectified_lpjepa.callbacks import (
    AtomicCheckpointIO,
    FeatureWriter,
    FigureWriter,
    FiniteCheck,
    ProgressBar,
    RunCheckpoint,
    RunSummary,
    result_table,
)
from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.loggers import run_loggers
from rectified_lpjepa.objectives import Objective
from rectified_lpjepa.run import Run, RunDirectory, identity

_EVALUATIONS = ("validate", "test", "predict")
_TRACEBACK = "RECTIFIED_LPJEPA_TRACEBACK"


class Parser(LightningArgumentParser):
    """LightningCLI's parser, with abbreviations refused and the nearest name offered for an unknown one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, allow_abbrev=False)

    @override
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(message + _suggestion(message, self._names()), ex)

    @override
    def print_usage(self, file: Any = None) -> None:
        """Print nothing: the usage of some hundred options would bury the message that follows it."""

    def _names(self) -> set[str]:
        names = {part for action in self._actions for part in action.dest.split(".")}
        for base in (Objective, TwoViewDataModule):
            for kind in _subclasses(base):
                names |= _parameters(kind)
        return names


def _subclasses(kind: type) -> Iterator[type]:
    child: type
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


def _parameters(kind: type) -> set[str]:
    """Collect the names of a class's parameters, and those of dataclasses among their defaults."""
    names = set()
    for name, parameter in inspect.signature(kind).parameters.items():
        names.add(name)
        if is_dataclass(parameter.default):
            names |= {field.name for field in fields(parameter.default)}
    return names


def _suggestion(message: str, names: set[str]) -> str:
    """Name the nearest known names of what a parser's message says is unknown."""
    unknown = re.findall(r"unrecognized arguments: --([\w.]+)|[Oo]ption '([\w.]+)'|[Kk]ey '([\w.]+)' is not", message)
    hints = []
    for part in (part for match in unknown for path in match for part in path.split(".")):
        near = difflib.get_close_matches(part, names, n=3, cutoff=0.6) if part and part not in names else []
        if near:
            hints.append(f"{part}: did you mean {' or '.join(near)}?")
    return "\n  HINT: " + " ".join(hints) if hints else ""


class _SaveConfig(SaveConfigCallback):
    """Write the configuration of a fit into its run directory."""

    @override
    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self.parser.save(
                self.config,
                Path(trainer.default_root_dir) / "config.yaml",
                skip_unset=False,
                overwrite=True,
                multifile=False,
            )


class CLI(LightningCLI):
    """LightningCLI with run directories: their names come from what is run, and a stopped run goes on."""

    def __init__(self, args: Sequence[str] | None = None) -> None:
        super().__init__(
            RectifiedLpJEPA,
            TwoViewDataModule,
            subclass_mode_data=True,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={
                "description": "Pretrain, measure and reproduce Rectified LpJEPA: sparse, non-negative image features. "
                "Try: rectified-lpjepa fit --config configs/digits.yaml"
            },
            args=list(args) if args is not None else None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # the model keeps its own hyper-parameters
            trainer_defaults={"use_distributed_sampler": False},
        )

    @override
    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything", type=int, default=self.seed_everything_default, help="Seed of every draw of the run."
        )

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=Run, default=Run())
        parser.add_lightning_class_args(FigureWriter, "figures")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.init_args.batch_size", "model.batch_size")
        for name in ("num_classes", "image_size", "in_channels", "mean", "std"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        # Resuming is the run directory's business, checkpoints are always read as plain weights, tables are ours.
        return {
            command: skipped
            | {"weights_only", "verbose", "return_predictions"}
            | ({"ckpt_path"} if command == "fit" else set())
            for command, skipped in LightningCLI.subcommands().items()
        }

    @override
    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: what is asked for here comes before what a checkpoint remembers."""

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config[self.subcommand]
        plain = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_unset=False, skip_validation=True))
        self.directory = RunDirectory(self._run(), identity(plain))
        settings = self.config_init[self.subcommand].trainer
        kwargs["default_root_dir"] = str(self.directory.path)
        kwargs["plugins"] = [AtomicCheckpointIO(), *_as_list(settings.plugins)]
        own = [RunSummary(), FiniteCheck(), ProgressBar(), FeatureWriter()]
        kwargs["callbacks"] = [*_as_list(settings.callbacks), *own]
        kwargs["enable_model_summary"] = bool(settings.enable_model_summary)
        self.checkpoint = None
        if self.subcommand == "fit":
            if self.directory.result is None or self.directory.run.fresh:
                self.checkpoint = self.directory.open()
                if settings.logger in (None, True):
                    kwargs["logger"] = run_loggers(self.directory.path, self._first_step())
        else:
            kwargs["logger"] = False
        return super().instantiate_trainer(**kwargs)

    def _run(self) -> Run:
        """Give the settings of the run; what is said of a run's checkpoint belongs into the directory it lies in."""
        run: Run = self.config_init[self.subcommand].run
        checkpoint = self.config[self.subcommand].get("ckpt_path")
        if checkpoint is None or not (Path(checkpoint).parent.parent / "identity.json").is_file():
            return run
        return replace(run, dir=str(Path(checkpoint).parent.parent))

    def _first_step(self) -> int:
        if self.checkpoint != self.directory.last_checkpoint:
            return 0
        return int(AtomicCheckpointIO().load_checkpoint(self.checkpoint)["global_step"])

    def fit(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Train, or go on training, or say that the run is finished; then show the result."""
        finished = self.directory.result is not None and not self.directory.run.fresh
        if finished:
            _say(
                f"The run {self.directory.path} is finished. HINT: `--run.fresh true` starts it over, another "
                "`--seed_everything` or any other value makes a new run."
            )
        else:
            self.trainer.fit(model, datamodule, ckpt_path=self.checkpoint, weights_only=True)
        self._show(self.directory.result)

    def validate(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Evaluate a checkpoint (the run's last one by default) on the validation set."""
        checkpoint = self._evaluated(ckpt_path)
        (metrics,) = self.trainer.validate(model, datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
        _say(result_table(metrics))
        result = self.directory.result
        logged = None if result is None else {k: v for k, v in result["metrics"].items() if k.startswith("val/")}
        if logged is not None and Path(checkpoint).resolve() == self.directory.last_checkpoint.resolve():
            differing = [key for key in logged if metrics.get(key) != logged[key]]
            _say(f"differs from training's log in: {', '.join(differing)}" if differing else "equal to training's log")
        self._show_figures()

    def test(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Evaluate a checkpoint (the run's last one by default) on the test set."""
        (metrics,) = self.trainer.test(
            model, datamodule, ckpt_path=self._evaluated(ckpt_path), weights_only=True, verbose=False
        )
        _say(result_table(metrics, "test"))

    def predict(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Write the features of a checkpoint (the run's last one by default) to ``features.npz``."""
        self.trainer.predict(
            model, datamodule, return_predictions=False, ckpt_path=self._evaluated(ckpt_path), weights_only=True
        )

    def _evaluated(self, ckpt_path: str | None) -> str:
        checkpoint = self.directory.last_checkpoint if ckpt_path is None else Path(ckpt_path)
        if not checkpoint.is_file():
            raise FileNotFoundError(
                f"There is no checkpoint {checkpoint}. HINT: train first, with `rectified-lpjepa fit` and the same "
                "options, or name a checkpoint with `--ckpt_path`."
            )
        return str(checkpoint)

    def _show(self, result: dict[str, Any] | None) -> None:
        if result is not None:
            _say(
                f"\n{result_table(result['metrics'])}\n{result['epochs']} epochs, {result['steps']} steps, "
                f"{result['seconds']:.0f} s on {result['hardware']}"
            )
            self._show_figures()

    def _show_figures(self) -> None:
        _say(f"figures: {self.directory.path / 'figures'}")


@rank_zero_only
def _say(text: str) -> None:
    print(text)  # noqa: T201 - the command line's output


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _with_config_of_checkpoint(arguments: list[str]) -> list[str]:
    """Evaluate a run's checkpoint under the run's own configuration where none is given."""
    if not arguments or arguments[0] not in _EVALUATIONS:
        return arguments
    given = {argument.split("=", 1)[0] for argument in arguments}
    if given & {"--config", "-c"} or "--ckpt_path" not in given:
        return arguments
    place = next(i for i, argument in enumerate(arguments) if argument.startswith("--ckpt_path"))
    path = arguments[place].partition("=")[2] or (arguments[place + 1] if place + 1 < len(arguments) else "")
    config = Path(path).parent.parent / "config.yaml"
    return [arguments[0], "--config", str(config), *arguments[1:]] if config.is_file() else arguments


def _quiet_lightning() -> None:
    """Leave of Lightning's messages those that a user can act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 calls older names of torch and jsonargparse.
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: what follows the program's name; by default what the shell gave.

    Raises:
        SystemExit: with status 2 for a wrong command line, 1 for an error with a message.
    """
    given = _with_config_of_checkpoint(list(sys.argv[1:] if arguments is None else arguments))
    sys.argv[1:] = given
    _quiet_lightning()
    try:
        CLI()
    except (ValueError, TypeError, FileNotFoundError, FloatingPointError) as error:
        if os.environ.get(_TRACEBACK):
            raise
        print(f"error: {error}\n(set {_TRACEBACK}=1 to see where it comes from)", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
