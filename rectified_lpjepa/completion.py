"""The command ``rectified-lpjepa completion``: a script with which bash or zsh completes commands and options.

The script is static: nothing of this program runs when a key is pressed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import shtab

from rectified_lpjepa.commands import COMMANDS, PROGRAM
from rectified_lpjepa.doctor.command import make_parser as doctor_parser
from rectified_lpjepa.experiment.command import make_parser as experiment_parser
from rectified_lpjepa.sweep.arguments import CommandParser
from rectified_lpjepa.sweep.command import make_parser as sweep_parser

_SHELLS = ("bash", "zsh")
_INSTALL = f"""\
bash, with the package bash-completion:
  {PROGRAM} completion bash > ~/.local/share/bash-completion/completions/{PROGRAM}
bash, without it: add to ~/.bashrc
  eval "$({PROGRAM} completion bash)"
zsh: write it to a folder of $fpath, before compinit is called in ~/.zshrc
  {PROGRAM} completion zsh > ~/.zfunc/_{PROGRAM}
"""
_RUN = ("--config", "--seed_everything", "--run.name", "--run.root", "--run.dir")
_DEVICES = ("--trainer.accelerator", "--trainer.devices", "--trainer.num_nodes", "--trainer.precision")
_DATA = ("--data", "--data.root", "--data.path", "--data.download", "--data.batch_size", "--data.num_workers")
_EVALUATED = (*_RUN, "--ckpt_path", *_DEVICES, *_DATA)
OPTIONS: dict[str, tuple[str, ...]] = {
    "fit": (
        *_RUN,
        "--run.fresh",
        "--run.fork_from",
        *_DEVICES,
        "--trainer.strategy",
        "--trainer.max_epochs",
        "--trainer.max_time",
        "--trainer.logger",
        *_DATA,
        "--data.train_samples",
        "--data.views",
        "--data.local_crops.num",
        "--data.local_crops.size",
        "--model.backbone.name",
        "--model.projector.out_dim",
        "--model.rectifier",
        "--model.objective",
        "--model.objective.directions.num",
        "--model.objective.target.p",
        "--model.objective.target.mu",
        "--model.objective.target.active_fraction",
        "--model.optimizer.name",
        "--model.optimizer.lr",
        "--model.compile",
        "--figures.every_n_epochs",
        "--checkpoint.every_n_epochs",
        "--checkpoint.every_n_steps",
    ),
    "validate": _EVALUATED,
    "test": _EVALUATED,
    "predict": _EVALUATED,
    "evaluate": (
        *("--checkpoint", "--model", "--pretrained", "--data", "--root", "--download", "--out", "--cache", "--seed"),
        *("--accelerator", "--devices", "--num_nodes"),
    ),
    "prepare": ("--source", "--out", "--longest", "--shortest", "--quality", "--classes", "--num_workers"),
    "export": ("--checkpoint", "--out", "--onnx"),
    "benchmark": (),
}
"""What is completed of commands whose parsers import PyTorch: the options that are given most."""
NAMES: dict[str, tuple[str, ...]] = {
    "evaluate": (
        *("linear", "knn", "few-shot", "transfer", "sparsity", "independence", "distribution", "rank", "ood", "shift"),
        "all",
    ),
    "benchmark": ("convolution", "loss", "processes", "reader", "step", "views"),
}
"""What follows such a command in the first place."""
_FILES = ("--config", "--run.fork_from", "--ckpt_path", "--checkpoint", "--data.path")
_FOLDERS = ("--run.root", "--run.dir", "--data.root", "--source", "--out", "--cache", "--root", "--datasets")


def completion(arguments: Sequence[str]) -> None:
    """Print the script for a shell.

    Args:
        arguments: what follows ``completion`` on the command line.

    Raises:
        SystemExit: with help, or with status 2 for a wrong command line.
    """
    shell = _own_parser().parse_args(arguments).shell
    print(shtab.complete(_whole_parser(), shell))  # noqa: T201


def _own_parser() -> CommandParser:
    parser = CommandParser(
        prog=f"{PROGRAM} completion",
        description="Print a script that completes commands and options.",
        epilog=_INSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=_SHELLS, help="for which shell")
    return parser


def _whole_parser() -> argparse.ArgumentParser:
    """Make one parser of all commands, for what is on the command line, not for what it means."""
    parsers: dict[str, argparse.ArgumentParser] = {
        "sweep": sweep_parser(),
        "experiment": experiment_parser(),
        "doctor": doctor_parser(),
        "completion": _own_parser(),
        **{name: _listed_parser(name) for name in OPTIONS},
    }
    whole = argparse.ArgumentParser(prog=PROGRAM)
    whole.add_argument("--version", action="store_true", help="show what is installed")
    commands = whole.add_subparsers(parser_class=lambda parser, **_: parser)  # type: ignore[call-overload]
    for name, about in COMMANDS.items():
        commands.add_parser(name, help=about, parser=parsers[name])
        _say_where_files_stand(parsers[name])
    return whole


def _listed_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} {name}")
    if name in NAMES:
        parser.add_argument("name", choices=NAMES[name])
    for option in OPTIONS[name]:
        parser.add_argument(option)
    return parser


def _say_where_files_stand(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if action.type is Path or not set(_FILES).isdisjoint(action.option_strings):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # by which shtab is told
        if not set(_FOLDERS).isdisjoint(action.option_strings):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _say_where_files_stand(child)
