"""What a training asks of a machine: its options, read by the parser of ``fit``."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """The options of a training that have to do with the machine.

    Attributes:
        processes: on one node.
        num_workers: processes that read images, for each of these.
        reads_files: whether the data are image files, which such processes decode.
        on_gpus: whether it runs on GPUs.
        refusals: what ``fit`` would say against it before it begins.
    """

    processes: int = 1
    num_workers: int = 0
    reads_files: bool = False
    on_gpus: bool = False
    refusals: tuple[str, ...] = ()


def read_training(options: Sequence[str], environment: Mapping[str, str] = os.environ) -> Training:
    """Parse the options of ``fit``, and compare devices, nodes and batch with what started this process.

    Args:
        options: such as ``--config FILE --trainer.devices 4``.
        environment: the variables of this process.

    Raises:
        SystemExit: with status 2 where ``fit`` would not take them.
    """
    from jsonargparse import capture_parser

    from rectified_lpjepa.cli import CLI
    from rectified_lpjepa.data import ImageFolderDataModule, TorchvisionDataModule
    from rectified_lpjepa.preflight import (
        Layout,
        check_launch,
        requested_layout,
        take_what_torchrun_started,
        usable_accelerator,
    )

    given = ["fit", *options]
    with warnings.catch_warnings():
        # It warns of the other command line, that of this process.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        parser = capture_parser(lambda: CLI(given))
    config = parser.parse_args(given).fit
    trainer, data = config.trainer, config.data
    layout: Layout | None = None
    refusals = ""
    take_what_torchrun_started(trainer, environment)
    try:
        trainer.accelerator = usable_accelerator(trainer.accelerator)
        layout = requested_layout(trainer, data.init_args.batch_size)
        if layout is not None:
            check_launch(environment, layout)
    except ValueError as refusal:
        refusals = str(refusal)
    module, _, name = data.class_path.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    return Training(
        processes=1 if layout is None else layout.devices,
        num_workers=data.init_args.num_workers,
        reads_files=issubclass(kind, ImageFolderDataModule | TorchvisionDataModule),
        on_gpus=layout is not None and layout.gpus is not None,
        refusals=tuple(refusals.splitlines()),
    )
