"""Train the runs of an experiment, evaluate them, and write down what was found; restartable at any time."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from rectified_lpjepa.commands import SIGNAL_EXIT, nearest, say
from rectified_lpjepa.distributions import RectifiedGeneralizedGaussian
from rectified_lpjepa.evaluation.datasets import DataSource
from rectified_lpjepa.evaluation.models import Model, load_checkpoint
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.evaluation.run import FAILURES, evaluate_one
from rectified_lpjepa.evaluation.subject import ModelSubject, data_of_run
from rectified_lpjepa.experiment.datasets import check_datasets, make_datasets
from rectified_lpjepa.experiment.study import Study, Variant
from rectified_lpjepa.networks import Rectifier, rectify
from rectified_lpjepa.networks.rectifiers import RECTIFIERS
from rectified_lpjepa.sweep import launch

_DATA_OPTIONS = ("to", "against")
"""The options of evaluations that name further data sets."""
_ANY_SIZE = 32  # of images, which only evaluations read


def run(study: Study, *, launcher: str, parallel: int, source: DataSource) -> int:
    """Run what is not finished, then evaluate what is finished and not evaluated.

    Args:
        study: what to run.
        launcher: ``local``, or ``slurm``, which submits the runs and evaluates those that are finished already.
        parallel: runs at a time on this machine.
        source: where the data sets lie that evaluations name.

    Returns:
        The exit code: 0, 1 where a run or an evaluation failed, 128 and the signal after a signal.

    Raises:
        ValueError: an evaluation of the profile has no such name or option, or names data that cannot be read.
    """
    check_evaluations(study)
    if {status.state for status in study.load().statuses.values()} != {"finished"}:
        check_data(study, source)
    code = launch.run(study.sweep, study.file.parent, launcher=launcher, parallel=parallel)
    if code > SIGNAL_EXIT:  # after a signal
        return code
    return max(code, evaluate_finished(study, source))


def check_evaluations(study: Study) -> None:
    """Refuse evaluations that there are not, and options that they do not have, before anything is trained.

    Raises:
        ValueError: there is no such evaluation, data set, rectifier or option; the message names the nearest.
    """
    check_datasets(study.profile.datasets)
    where = f"{study.file}: profiles.{study.profile_name}"
    for name, options in study.profile.evaluations.items():
        if name not in EVALUATIONS:
            raise ValueError(
                f"{where}: there is no evaluation {name!r}; known are {', '.join(EVALUATIONS)}."
                f"{nearest(name, EVALUATIONS)}"
            )
        known = list(inspect.signature(EVALUATIONS[name]).parameters)[1:]
        for option, value in options.items():
            if option not in known:
                raise ValueError(
                    f"{where}: {name} has no option {option!r}; known are {', '.join(known)}.{nearest(option, known)}"
                )
            if option in _DATA_OPTIONS and not isinstance(value, list):
                raise ValueError(f"{where}: {name}: {option} must be a list of data sets, got {value!r}.")
    for post_hoc in study.profile.post_hoc:
        if post_hoc.rectifier not in RECTIFIERS:
            raise ValueError(
                f"{where}: there is no rectifier {post_hoc.rectifier!r}; known are {', '.join(RECTIFIERS)}."
            )


def check_data(study: Study, source: DataSource) -> None:
    """Refuse evaluations on data that are not there, before anything is trained; what is to be fetched is fetched.

    Args:
        study: what is to be run.
        source: where the data sets lie that evaluations name.

    Raises:
        ValueError: a data set is not there, or not all of it.
    """
    for (evaluation, options), option in itertools.product(study.profile.evaluations.items(), _DATA_OPTIONS):
        for name in options.get(option, []):
            if name in study.profile.datasets:
                continue
            try:
                data = source.open(name, image_size=_ANY_SIZE)
                data.positions("test")
                if option == "to":  # classifiers are trained on them
                    data.positions("train")
            except (OSError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{study.file}: profiles.{study.profile_name}: {evaluation} looks at {name!r}, which cannot be "
                    f"read: nothing was started. {error}\n"
                    "  HINT: put it there, or leave it out in a copy of the experiment's file."
                ) from error


def evaluate_finished(study: Study, source: DataSource) -> int:
    """Evaluate the finished runs; what is there already is not done again.

    Returns:
        0, or 1 where a checkpoint could not be read or an evaluation failed; the others are made all the same.
    """
    made = make_datasets(study.profile.datasets, study.datasets)
    failed = 0
    variants = list(study.finished(study.load())) if study.profile.evaluations else []
    for number, variant in enumerate(variants, 1):
        say(f"evaluating {number}/{len(variants)}: {variant.directory.relative_to(study.folder.absolute())}")
        try:
            subject = _subject(variant, source)
        except FAILURES as error:
            failed = 1
            say(f"error: {variant.checkpoint}: {error}", sys.stderr)
            continue
        for name, options in study.profile.evaluations.items():
            try:
                evaluate_one(subject, name, _with_paths(options, made), variant.directory / "evaluation")
            except FAILURES as error:
                failed = 1
                say(f"error: {name}: {error}", sys.stderr)
    return failed


def _with_paths(options: Mapping[str, Any], made: Mapping[str, str]) -> dict[str, Any]:
    """Put the paths of data sets that were made in the place of their names."""

    def path(value: Any) -> Any:
        if isinstance(value, list):
            return [path(part) for part in value]
        return made.get(value, value) if isinstance(value, str) else value

    return {name: path(value) for name, value in options.items()}


def _subject(variant: Variant, source: DataSource) -> ModelSubject:
    model = load_checkpoint(variant.checkpoint)
    data = data_of_run(variant.checkpoint, model)
    if variant.post_hoc is not None:
        model = rectified_post_hoc(model, variant.post_hoc.rectifier)  # type: ignore[arg-type]  # was checked
    return ModelSubject(model, data, variant.directory / "features", source=source)


class _PostHoc(nn.Module):
    def __init__(self, network: nn.Module, rectifier: Rectifier) -> None:
        super().__init__()
        self.network = network
        self.rectifier: Rectifier = rectifier

    @override
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = self.network(images)
        return features | {"projector": rectify(features["preactivations"], self.rectifier)}


def rectified_post_hoc(model: Model, rectifier: Rectifier) -> Model:
    """Let another rectifier follow the projector of a trained model, and its target law."""
    law = model.law
    if law is not None and rectifier != "none":
        law = RectifiedGeneralizedGaussian(law.p, law.loc, law.scale)
    return replace(model, network=_PostHoc(model.network, rectifier), rectified=rectifier != "none", law=law)
