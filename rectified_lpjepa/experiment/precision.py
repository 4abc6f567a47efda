"""The precision that a ``cpu`` profile trains in where nothing asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from rectified_lpjepa.commands import say
from rectified_lpjepa.experiment.study import Study
from rectified_lpjepa.machine import has_bfloat16
from rectified_lpjepa.sweep.manifest import Folder, read_manifest
from rectified_lpjepa.sweep.yaml_file import read_mapping

_OPTION = "trainer.precision"
_BFLOAT16, _FLOAT32 = "bf16-mixed", "32-true"


def with_precision(study: Study, launcher: str | None) -> Study:
    """Let a ``cpu`` profile train in bfloat16 on a processor that has it; what is started goes on as it began.

    Nothing changes where the precision is asked for, by the command, by the experiment or by a configuration of it, on
    a machine with a GPU, and on a cluster, whose processors are not known here. An experiment whose runs are there goes
    on, and is reported, in the precision of the first of them, on whatever machine.

    Args:
        study: what is to be run or looked at.
        launcher: ``local`` or ``slurm``; None where nothing is to be started.

    Returns:
        The study, with the precision among its given options where one was chosen.

    Raises:
        FileNotFoundError: there is no such configuration.
        ValueError: a configuration is no mapping.
    """
    if study.profile_name != "cpu" or _is_asked_for(study):
        return study
    is_here = launcher == "local" and not torch.cuda.is_available()
    has_it = has_bfloat16() and torch.backends.mkldnn.is_available()
    started = read_manifest(Folder(study.folder).manifest)
    if started:
        if _OPTION not in started[0].options:
            return study
        if is_here and started[0].options[_OPTION] == _BFLOAT16 and not has_it:
            say(
                "these runs began in bfloat16 and go on in it, many times slower than in float32, as this processor "
                f"has no instructions for it; `--set {_OPTION}={_FLOAT32}` begins them anew in float32\n"
            )
        return _in(study, started[0].options[_OPTION])
    if not (is_here and has_it):
        return study
    say(
        "this processor has bfloat16, in which the runs take about two thirds of the time, and so they train in it; "
        f"accuracies differ by tenths of a point, and `--set {_OPTION}={_FLOAT32}` trains in float32\n"
    )
    return _in(study, _BFLOAT16)


def _is_asked_for(study: Study) -> bool:
    points = study.sweep.expand(study.file.parent)
    trainers = [point.options.get("trainer") for point in points]
    trainers += [read_mapping(path).get("trainer") for path in {point.config for point in points}]
    return any(_OPTION in point.options for point in points) or any(
        isinstance(trainer, Mapping) and "precision" in trainer for trainer in trainers
    )


def _in(study: Study, precision: Any) -> Study:
    return replace(study, given={**study.given, _OPTION: precision})
