"""The command ``rectified-lpjepa evaluate NAME --checkpoint …``."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rectified_lpjepa.commands import nearest
from rectified_lpjepa.distributed.first import say_first
from rectified_lpjepa.evaluation.datasets import DataSource
from rectified_lpjepa.evaluation.extraction import Devices
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.evaluation.run import FAILURES, evaluate, evaluate_one, open_subject
from rectified_lpjepa.evaluation.subject import ModelSubject
from rectified_lpjepa.evaluation.transfer import transfer_table
from rectified_lpjepa.parser import Parser
from rectified_lpjepa.remarks import remarks, told

_PROGRAM = "rectified-lpjepa evaluate"
_ALL = "all"


def evaluate_command(arguments: Sequence[str]) -> None:
    """Run ``evaluate NAME`` and print what was found, and where it stands.

    Args:
        arguments: what follows ``evaluate`` on the command line: the name of an evaluation or ``all``, and options.

    Raises:
        SystemExit: with help, or with status 2 for a wrong command line.
        ValueError: the evaluation does not apply to this model or these data.
        FileNotFoundError: there is no such checkpoint, or no such data.
    """
    name = _name(arguments)
    parser = make_parser(name)
    given = parser.parse_args(list(arguments[1:])).as_dict()
    given.pop("config", None)
    names = inspect.signature(evaluate).parameters
    general = {key: given.pop(key) for key in list(given) if key in names}
    root, download = general.pop("root"), general.pop("download")
    devices = Devices(*(general.pop(key) for key in ("accelerator", "devices", "num_nodes")))
    subject, out = open_subject(**general, source=DataSource(root, download), devices=devices)
    if name == _ALL:
        _evaluate_all(subject, out)
        return
    found, path = evaluate_one(subject, name, given, out)
    table = transfer_table(found.details["table"]) if name == "transfer" else metric_table(found.metrics)
    _show(table, _noticed(name, found.metrics), str(path))


def make_parser(name: str) -> Parser:
    """Make the parser of one evaluation, or of ``all``: what every evaluation has, and the options of this one."""
    about = "All evaluations that apply, with their defaults."
    if name != _ALL:
        about = (inspect.getdoc(EVALUATIONS[name]) or "").partition("\n")[0]
    parser = Parser(prog=f"{_PROGRAM} {name}", description=about)
    parser.add_function_arguments(evaluate, skip={"evaluations", "checkpoint"}, as_group=False)
    parser.add_argument("--checkpoint", type=Path | None, default=None, help="a checkpoint of a run, such as last.ckpt")
    if name != _ALL:
        parser.add_function_arguments(EVALUATIONS[name], skip={"subject"}, as_group=False)
    return parser


def _name(arguments: Sequence[str]) -> str:
    """Take the name of the evaluation, or exit with what there is."""
    names = [*EVALUATIONS, _ALL]
    if arguments and arguments[0] in names:
        return arguments[0]
    listed = "\n".join(f"  {name:<13} {_summary(name)}" for name in names)
    if arguments and arguments[0] in ("--help", "-h"):
        print(f"usage: {_PROGRAM} NAME --checkpoint FILE [OPTIONS]\n\nevaluations:\n{listed}")  # noqa: T201
        raise SystemExit(0)
    first = arguments[0] if arguments else None
    what = "name an evaluation" if first is None or first.startswith("-") else f"there is no evaluation {first!r}"
    hint = nearest(first or "", names)
    message = f"error: {what}. The first argument is one of {', '.join(names)}.{hint}\nTry: {_PROGRAM} --help"
    print(message, file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


def _summary(name: str) -> str:
    if name == _ALL:
        return "all of them that apply, with their defaults"
    return (inspect.getdoc(EVALUATIONS[name]) or "").partition("\n")[0].rstrip(".")


def _evaluate_all(subject: ModelSubject, out: Path) -> None:
    """Run every evaluation that can be run without further options; say which are left out, and why."""
    left_out: dict[str, str] = {}
    metrics: dict[str, float] = {}
    noticed: list[str] = []
    for name, function in EVALUATIONS.items():
        parameters = list(inspect.signature(function).parameters.values())[1:]
        missing = [option.name for option in parameters if option.default is option.empty]
        if missing:
            left_out[name] = f"it needs `--{missing[0]}`: `{_PROGRAM} {name} --{missing[0]} …`"
            continue
        try:
            found, _ = evaluate_one(subject, name, {}, out)
        except FAILURES as error:
            left_out[name] = str(error)
            continue
        metrics |= {f"{name}: {key}": value for key, value in found.metrics.items()}
        noticed.append(_noticed(name, found.metrics))
    reasons = "\n".join(f"{name} left out: {reason}" for name, reason in left_out.items())
    if not metrics:
        raise ValueError(f"No evaluation applies.\n{reasons}")
    _show(metric_table(metrics), *noticed, reasons, str(out))


def _noticed(name: str, metrics: Mapping[str, float]) -> str:
    return told(remarks({f"{name}/{key}": value for key, value in metrics.items()}))


def _show(*parts: str) -> None:
    say_first("\n".join(part for part in parts if part))


def metric_table(metrics: Mapping[str, float]) -> str:
    """Lay out metrics, one a line, with what the target predicts beside what was measured."""
    measured = [name for name in metrics if not name.endswith("_target")]
    has_targets = len(measured) < len(metrics)
    width = max((len(name) for name in measured), default=0)
    lines = [f"{'':<{width}}{'measured':>12}{'target':>12}"] if has_targets else []
    for name in measured:
        target = metrics.get(f"{name}_target")
        lines.append(f"{name:<{width}}{_shown(metrics[name]):>12}{'' if target is None else f'{_shown(target):>12}'}")
    return "\n".join(lines)


def _shown(value: float) -> str:
    if not math.isfinite(value):
        return "undefined"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"
