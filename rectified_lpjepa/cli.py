"""Training and evaluation from the command line, ``fit|validate|test|predict --config …``, on LightningCLI."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync
from typing_extensions import override

from rectified_lpjepa.callbacks import (
    AtomicCheckpointIO,
    FeatureWriter,
    FigureWriter,
    FiniteCheck,
    ProgressBar,
    RunCheckpoint,
    RunCost,
    RunSummary,
    result_table,
)
from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.distributed import AllGatherDDPStrategy, BatchNormSync
from rectified_lpjepa.distributed.first import say_first
from rectified_lpjepa.identity import identity
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.loggers import check_logger, logged_values, of_this_run, run_loggers
from rectified_lpjepa.parser import Parser
from rectified_lpjepa.preflight import (
    check_launch,
    requested_layout,
    take_what_torchrun_started,
    usable_accelerator,
)
from rectified_lpjepa.remarks import remarks, told
from rectified_lpjepa.run import Run, RunDirectory, existing_checkpoint
from rectified_lpjepa.slurm import srun_environment
from rectified_lpjepa.training import train


class _SaveConfig(SaveConfigCallback):
    """Write the configuration of a fit into its run directory."""

    @override
    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            config = self.config.clone()
            config.run.fresh = False  # said of one start; started from this file, the run goes on
            path = Path(trainer.default_root_dir) / "config.yaml"
            self.parser.save(config, path, skip_unset=False, overwrite=True, multifile=False)


class CLI(LightningCLI):
    """LightningCLI with run directories: their names come from what is run, and a stopped run goes on."""

    def __init__(self, args: Sequence[str] | None = None) -> None:
        given = sys.argv[1:] if args is None else args
        self._named = self.subcommands().keys() & set(given) or self.subcommands().keys()
        super().__init__(
            RectifiedLpJEPA,
            TwoViewDataModule,
            subclass_mode_data=True,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            parser_class=Parser,
            args=list(args) if args is not None else None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # the model keeps its own hyper-parameters
            trainer_defaults={"use_distributed_sampler": False, "sync_batchnorm": True},
        )

    # ------------------------------------------------------------------------------------------------- parsing

    @override
    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        # The options of one command take a second to collect, and at most one of them is named on the command line.
        if subcommand in self._named:
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        return self.init_parser(**kwargs)

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
        for name in ("num_classes", "image_size", "local_size", "in_channels", "mean", "std"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        # Resuming is the run directory's business, checkpoints are always read as plain weights, tables are ours.
        ours = {"weights_only", "verbose", "return_predictions"}
        commands = {command: skipped | ours for command, skipped in LightningCLI.subcommands().items()}
        return commands | {"fit": commands["fit"] | {"ckpt_path"}}

    @override
    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: what is asked for here comes before what a checkpoint remembers."""

    # ------------------------------------------------------------------------------------------ the run's parts

    @override
    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        take_what_torchrun_started(config.trainer, os.environ)
        asked, config.trainer.accelerator = config.trainer.accelerator, usable_accelerator(config.trainer.accelerator)
        if config.trainer.accelerator != asked:
            say_first("the GPU of Apple's is not used, as it has no float64: this runs on the CPU")
        check_logger(config.trainer.logger)
        batch_size = config.data.init_args.batch_size if self.subcommand == "fit" else None
        layout = requested_layout(config.trainer, batch_size)
        if layout is not None:
            check_launch(os.environ, layout)

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config[self.subcommand]
        settings = self.config_init[self.subcommand].trainer
        if settings.default_root_dir is not None:
            raise ValueError(
                f"trainer.default_root_dir is {settings.default_root_dir}, but a run's files lie in its run directory. "
                "HINT: set `--run.root` or `--run.dir` in its place."
            )
        plain = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_unset=False, skip_validation=True))
        self.directory = RunDirectory(self._run(), identity(plain, self.datamodule.fingerprint))
        self.checkpoint: Path | None = None
        self.finished = False
        kwargs["logger"] = settings.logger
        if self.subcommand != "fit":
            kwargs["logger"] = False
        elif not settings.fast_dev_run:
            self.directory.check()
            self.finished = self.directory.result is not None and not self.directory.run.fresh
            if not self.finished:
                kwargs["logger"] = self._open(settings.logger, plain["trainer"]["logger"])
        kwargs["default_root_dir"] = str(self.directory.path)
        plugins = _as_list(settings.plugins)
        srun = srun_environment()
        if srun is not None and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
            plugins.append(srun)
        if settings.sync_batchnorm and not any(isinstance(plugin, LayerSync) for plugin in plugins):
            # Lightning's own way to do it knows CUDA alone.
            kwargs["sync_batchnorm"] = False
            plugins.append(BatchNormSync())
        kwargs["plugins"] = [AtomicCheckpointIO(), *plugins]
        self.summary = RunSummary()
        own = [self.summary, RunCost(), FiniteCheck(), FeatureWriter(self._feature_file())]
        if settings.enable_progress_bar is not False:
            own.append(ProgressBar())
        kwargs["enable_model_summary"] = bool(settings.enable_model_summary)
        trainer = super().instantiate_trainer(**kwargs, callbacks=[*_as_list(settings.callbacks), *own])
        if settings.strategy == "auto" and trainer.num_devices * trainer.num_nodes > 1:
            kwargs["strategy"] = AllGatherDDPStrategy.strategy_name
            trainer = super().instantiate_trainer(**kwargs, callbacks=[*_as_list(settings.callbacks), *own])
        return trainer

    def _run(self) -> Run:
        """Give the settings of the run; what is said of a run's checkpoint belongs into the directory it lies in."""
        run: Run = self.config_init[self.subcommand].run
        checkpoint = self.config[self.subcommand].get("ckpt_path")
        if checkpoint is None or not (Path(checkpoint).parent.parent / "identity.json").is_file():
            return run
        return replace(run, dir=str(Path(checkpoint).parent.parent))

    def _open(self, loggers: Any, setting: Any) -> list[Logger] | bool:
        """Claim the run's directory, find out where the run starts or goes on, and give its loggers.

        Args:
            loggers: what ``trainer.logger`` asks for beside TensorBoard and CSV; False for none at all.
            setting: the same as it stands in the configuration.
        """
        self.checkpoint = self.directory.open()
        try:
            first_step = self._first_step()
            self.directory.note_start(first_step)
            if loggers is False:
                return False
            further = [
                of_this_run(logger, part, self.directory.path, self.directory.identity)
                for logger, part in zip(_as_list(loggers), _as_list(setting), strict=True)
                if isinstance(logger, Logger)
            ]
            return [*run_loggers(self.directory.path, first_step), *further]
        except BaseException:
            self.directory.close()
            raise

    def _first_step(self) -> int:
        if self.checkpoint is None or self.checkpoint.parent != self.directory.last_checkpoint.parent:
            return 0
        return int(AtomicCheckpointIO().load_checkpoint(self.checkpoint)["global_step"])

    def _feature_file(self) -> str:
        return str(self.directory.path / f"features_{self.datamodule.predict_split}.npz")

    # --------------------------------------------------------------------------------------------- the commands

    def fit(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Train, or go on training, or say that the run is finished; then show the result."""
        if self.finished:
            say_first(
                f"The run {self.directory.path} is finished. HINT: `--run.fresh true` starts it over, another "
                "`--seed_everything` or any other value makes a new run."
            )
        else:
            try:
                train(
                    self.trainer,
                    model,
                    datamodule,
                    directory=self.directory,
                    checkpoint=self.checkpoint,
                    summary=self.summary,
                )
            finally:
                self.directory.close()
        result = self.directory.result
        if result is not None:
            say_first(
                f"\n{result_table(result['metrics'])}\n{result['epochs']} epochs, {result['steps']} steps, "
                f"{result['seconds']:.0f} s on {result['hardware']}"
            )
            self._show_remarks(result["metrics"])
            self._show_figures()

    def validate(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Evaluate a checkpoint (the run's last one by default) on the validation set."""
        checkpoint = self._evaluated(ckpt_path)
        (metrics,) = self.trainer.validate(model, datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
        say_first(result_table(metrics))
        result = self.directory.result
        if result is not None and checkpoint.resolve() == self.directory.last_checkpoint.resolve():
            logged = {key: value for key, value in result["metrics"].items() if key.startswith("val/")}
            differing = [key for key in logged if metrics.get(key) != logged[key]]
            say_first(
                f"differs from training's log in: {', '.join(differing)}" if differing else "equal to training's log"
            )
        self._show_remarks(metrics)
        self._show_figures()

    def test(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Evaluate a checkpoint (the run's last one by default) on the test set."""
        checkpoint = self._evaluated(ckpt_path)
        (metrics,) = self.trainer.test(model, datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
        say_first(result_table(metrics, "test"))

    def predict(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Write the features of a checkpoint (the run's last one by default) to ``features_<split>.npz``."""
        checkpoint = self._evaluated(ckpt_path)
        self.trainer.predict(model, datamodule, return_predictions=False, ckpt_path=checkpoint, weights_only=True)

    def _evaluated(self, ckpt_path: str | None) -> Path:
        return existing_checkpoint(self.directory.last_checkpoint if ckpt_path is None else Path(ckpt_path))

    def _show_remarks(self, metrics: Mapping[str, float]) -> None:
        noticed = told(remarks(metrics, logged_values(self.directory.path, "train/loss")))
        if noticed:
            say_first(noticed)

    def _show_figures(self) -> None:
        say_first(f"figures: {self.directory.path / 'figures'}")


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
