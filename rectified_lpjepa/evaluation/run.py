"""Run evaluations of one model, and keep what they find; what is there already is not done again."""

from __future__ import annotations

import inspect
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning
import timm
import torch

import rectified_lpjepa
from rectified_lpjepa.distributed.first import say_first
from rectified_lpjepa.evaluation.datasets import DataSource, data_name, has_training_split
from rectified_lpjepa.evaluation.extraction import Devices, is_first, said_by_first
from rectified_lpjepa.evaluation.features import Evaluation
from rectified_lpjepa.evaluation.models import load_checkpoint, load_timm
from rectified_lpjepa.evaluation.records import Basis, evaluation_of, is_current, read_record, to_json
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.evaluation.subject import ModelSubject, data_of_run, fingerprint, run_directory
from rectified_lpjepa.files import write_text
from rectified_lpjepa.functional.precision import full_precision
from rectified_lpjepa.machine import processor

# NumPy's LinAlgError is a ValueError; PyTorch's is documented, but not in the list of what its module exports.
FAILURES = (ValueError, FileNotFoundError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
"""What may be wrong with one model or evaluation; the others are evaluated all the same."""


def evaluate(
    checkpoint: Path | None,
    evaluations: Mapping[str, Mapping[str, Any]],
    *,
    model: str | None = None,
    pretrained: bool = False,
    data: str | None = None,
    root: str = "datasets",
    download: bool = False,
    out: Path | None = None,
    cache: Path | None = None,
    seed: int | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
) -> dict[str, Evaluation]:
    """Evaluate a checkpoint, or a model of timm, and write what is found to ``<out>/<name>.json``.

    What lies there already, of the same weights, data, options, seed and version of this package, is read and not
    computed again. The data are the subject's and all others that an evaluation opened.

    Args:
        checkpoint: a checkpoint of a run; None for a model of timm.
        evaluations: options of each evaluation, by its name.
        model: name of a model of timm, to be evaluated in the place of a checkpoint.
        pretrained: download the weights of the timm model, or take them from timm's cache.
        data: an ``.npz`` file, an image folder, or one of digits, cifar10, cifar100, dtd, flowers102, food101, pets; by
            default the data that the checkpoint was trained on.
        root: folder that holds the data sets of torchvision.
        download: fetch a data set of torchvision into ``root`` if it is not there.
        out: folder of the results; by default ``evaluation`` in the directory of the run, and a folder in it named
            after ``data`` where that is given.
        cache: folder of the features; by default ``features`` in the directory of the run, ``runs/features`` for a
            model of timm.
        seed: of every draw; by default that of the run.
        accelerator: where to compute: ``cpu``, ``gpu``, or ``auto`` for the best there is.
        devices: processes on each node; under torchrun it is what that was told.
        num_nodes: number of nodes; under torchrun it is what that was told.

    Returns:
        What was found, by the name of the evaluation.

    Raises:
        FileNotFoundError: there is no such checkpoint, or no such data.
        ValueError: neither or both of ``checkpoint`` and ``model`` are given, an evaluation has no such name or option,
            or does not apply.
    """
    for name, options in evaluations.items():
        with_defaults(name, options)
    subject, out = open_subject(
        checkpoint,
        model=model,
        pretrained=pretrained,
        data=data,
        source=DataSource(root, download),
        out=out,
        cache=cache,
        seed=seed,
        devices=Devices(accelerator, devices, num_nodes),
    )
    return {name: evaluate_one(subject, name, options, out)[0] for name, options in evaluations.items()}


def open_subject(
    checkpoint: Path | None,
    *,
    model: str | None = None,
    pretrained: bool = False,
    data: str | None = None,
    source: DataSource = DataSource(),  # noqa: B008 - frozen
    out: Path | None = None,
    cache: Path | None = None,
    seed: int | None = None,
    devices: Devices = Devices(),  # noqa: B008 - frozen
) -> tuple[ModelSubject, Path]:
    """Open what is to be evaluated, see :func:`evaluate`.

    Returns:
        The model with its data, and the folder of the results.
    """
    if (checkpoint is None) == (model is None):
        given = "neither" if model is None else "both"
        raise ValueError(
            f"Evaluate a checkpoint or a model of timm: {given} was given. HINT: `--checkpoint "
            "runs/…/checkpoints/last.ckpt`, or `--model resnet50 --pretrained true --data …`."
        )
    if checkpoint is not None:
        loaded, base = load_checkpoint(checkpoint), run_directory(checkpoint)
        default_cache, default_out = base / "features", base / "evaluation"
    else:
        assert model is not None
        if data is None:
            raise ValueError(f"Say on which data {model} is to be evaluated. HINT: `--data`, such as `--data cifar10`.")
        loaded = load_timm(model, pretrained=pretrained, seed=0 if seed is None else seed)
        default_cache = Path("runs") / "features"
        default_out = Path("runs") / "evaluation" / f"{model}-{loaded.sha256[:8]}"
    if data is None:
        assert checkpoint is not None
        dataset = data_of_run(checkpoint, loaded)
    else:
        dataset = source.open(data, image_size=loaded.image_size, seed=loaded.seed if seed is None else seed)
        default_out = default_out / data_name(dataset)
    subject = ModelSubject(loaded, dataset, cache or default_cache, source=source, devices=devices, seed=seed)
    return subject, out or default_out


def evaluate_one(subject: ModelSubject, name: str, options: Mapping[str, Any], out: Path) -> tuple[Evaluation, Path]:
    """Run one evaluation, or read what it found before of the same weights, data, options, seed and version.

    Args:
        subject: what to evaluate.
        name: of the evaluation.
        options: its options; what is left out has its default.
        out: folder of the results.

    Returns:
        What was found, and the file that it stands in.

    Raises:
        ValueError: there is no such evaluation or option, or it does not apply to the subject.
    """
    path = out / f"{name}.json"
    basis = Basis(subject.model.sha256, fingerprint(subject.data), with_defaults(name, options), subject.seed)
    identity = {
        "checkpoint": {"path": subject.model.path, "sha256": basis.weights, "step": subject.model.step},
        "data": {
            "name": data_name(subject.data),
            "fingerprint": basis.data,
            "train": len(subject.data.positions("train")) if has_training_split(subject.data) else None,
            "test": len(subject.data.positions("test")),
        },
        "options": basis.options,
        "seed": basis.seed,
        "versions": {
            "rectified_lpjepa": rectified_lpjepa.__version__,
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        },
    }
    stored = said_by_first(_read(path, basis, subject))
    if stored is not None:
        say_first(f"{name}: already there")
        return stored, path
    subject.opened.clear()
    start = time.monotonic()
    with full_precision(subject.device):
        found = EVALUATIONS[name](subject, **options)
    record = {
        "name": name,
        "protocol": found.protocol,
        "metrics": found.metrics,
        "details": found.details,
        **identity,
        "others": dict(subject.opened),
        "seconds": round(time.monotonic() - start, 2),
        "hardware": _hardware(subject.device),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if is_first():
        write_text(path, to_json(record))
    return found, path


def _read(path: Path, basis: Basis, subject: ModelSubject) -> Evaluation | None:
    """Read a result if it is there, whole, and what would be found now; the other data are opened again."""
    if not path.is_file():
        return None
    try:
        record = read_record(path)
    except ValueError as error:
        say_first(f"{error} It is made anew.")
        return None

    def opened(name: str) -> str:
        subject.open(name)
        return subject.opened[name]

    try:
        return evaluation_of(record) if is_current(record, basis, opened) else None
    except (FileNotFoundError, ValueError):
        return None  # the evaluation itself says what is wrong with the other data


def with_defaults(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Bind the options of an evaluation to its parameters.

    Raises:
        ValueError: there is no such evaluation, an option is unknown, or one without a default is missing.
    """
    if name not in EVALUATIONS:
        raise ValueError(f"There is no evaluation {name!r}. Choose one of {', '.join(EVALUATIONS)}.")
    try:
        bound = inspect.signature(EVALUATIONS[name]).bind(None, **options)
    except TypeError as error:
        raise ValueError(f"The evaluation {name!r} cannot be run with {dict(options)}: {error}.") from error
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} threads, {processor()}"
