"""An experiment end to end: trained, evaluated, reported, and gone on with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluated_run import write_run
from studies import finished, profile, write_experiment
from sweeps import MU

from rectified_lpjepa.evaluation.datasets import DataSource
from rectified_lpjepa.evaluation.features import Evaluation, Subject
from rectified_lpjepa.evaluation.models import load_checkpoint
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.experiment.datasets import make_datasets
from rectified_lpjepa.experiment.run import check_data, check_evaluations, evaluate_finished, run
from rectified_lpjepa.experiment.study import FILE, Study, Variant
from rectified_lpjepa.main import main

BASE = """
seed_everything: 0
trainer: {max_epochs: 1, limit_train_batches: 3, limit_val_batches: 2, accelerator: cpu, log_every_n_steps: 1}
model:
  objective:
    class_path: rectified_lpjepa.objectives.RDMReg
    init_args: {directions: {num: 128}}
  backbone: {name: resnet18, kwargs: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}}
  projector: {hidden_dim: 16, out_dim: 12}
  optimizer: {name: adamw, lr: 0.01, probe_lr: 0.1, warmup_epochs: 0}
data: {class_path: rectified_lpjepa.data.DigitsDataModule, init_args: {batch_size: 32, train_samples: 128}}
"""
PROFILE: dict[str, Any] = {
    "config": "base.yaml",
    "grid": {"model.rectifier": ["relu", "none"]},
    "post_hoc": [{"where": {"rectifier": "none"}}],
    "datasets": ["photo_patches"],
    "evaluations": {
        "knn": {"k": 5},
        "sparsity": {"against": ["photo_patches"], "view_samples": 20, "pairs": 20},
    },
}
L0 = "sparsity/projector/sparsity/l0"


def experiment_file(folder: Path, **changed: Any) -> Path:
    content = {"published": [], "conditions": [], "columns": [{"metric": L0, "label": "ℓ0"}]}
    return write_experiment(folder, BASE, profiles={"smoke": PROFILE | changed}, **content)


def test_an_experiment_is_trained_evaluated_and_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["experiment", "run", str(experiment_file(tmp_path)), "--root", str(tmp_path / "runs"), "--parallel", "2"]
    main(command)
    printed = capsys.readouterr().out
    assert "evaluating 3/3" in printed
    folder = tmp_path / "runs" / "experiments" / "07_tiny" / "smoke"
    content = json.loads((folder / FILE).read_text())
    measured = {point["label"]: point["metrics"] for point in content["points"]}
    assert list(measured) == ["rectifier=relu", "rectifier=none", "rectifier=none, post_hoc=relu"]
    assert {"knn/encoder/knn5_cosine/top1", "sparsity/projector/sparsity_on_photo_patches/l0"} <= {
        *measured["rectifier=relu"]
    }
    dense, rectified = measured["rectifier=none"], measured["rectifier=none, post_hoc=relu"]
    assert dense[L0] == 1.0
    assert 0 < rectified[L0] < 1
    # The encoder is the same one.
    assert dense["knn/encoder/knn5_cosine/top1"] == rectified["knn/encoder/knn5_cosine/top1"]
    assert all(Path(line.partition(": ")[2]).is_file() for line in printed.splitlines()[-2:])

    files = [*folder.rglob("evaluation/*.json"), *folder.rglob("result.json")]
    before = {file: file.stat().st_mtime_ns for file in files}
    assert len(before) == 3 * 2 + 2
    next(folder.glob("points/rectifier=none*/evaluation/knn.json")).unlink()
    main(command)
    assert "nothing to run" in capsys.readouterr().out
    changed = [file for file in files if file.stat().st_mtime_ns != before[file]]
    assert [file.name for file in changed] == ["knn.json"]
    again = json.loads((folder / FILE).read_text())
    assert again["points"] == content["points"]


def test_what_is_reported_is_what_would_not_be_evaluated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever part of what decides its numbers was another one; and what is not there any more tells nothing."""

    def counts_images(subject: Subject, to: list[str]) -> Evaluation:
        return Evaluation("transfer", {}, {"images": float(len(subject.open(to[0]).positions("test")))})

    monkeypatch.setitem(EVALUATIONS, "transfer", counts_images)
    transferred = {
        "grid": {MU: [0]},
        "seeds": [3],
        "datasets": ["photo_patches"],
        "evaluations": {"transfer": {"to": ["photo_patches"]}},
    }
    file = write_experiment(tmp_path, profiles=profile(**transferred))
    study = Study.open(str(file), "smoke", str(tmp_path / "runs"))
    [entry] = study.load().plan.current
    finished(study)
    checkpoint = write_run(Path(entry.run_dir), train_samples=60)
    assert evaluate_finished(study, DataSource()) == 0
    path = Path(entry.run_dir) / "evaluation" / "transfer.json"
    whole = json.loads(path.read_text())

    def is_reported() -> bool:
        study.write()
        [point] = json.loads((study.folder / FILE).read_text())["points"]
        return "transfer/images" in point["metrics"]

    def is_made_again() -> bool:
        before = path.stat().st_mtime_ns
        assert evaluate_finished(study, DataSource()) == 0
        return path.stat().st_mtime_ns != before

    assert is_reported()
    assert not is_made_again()
    [other] = whole["others"]
    for part in (
        {"seed": 1},
        {"versions": {"rectified_lpjepa": "0.0.0"}},
        {"options": {"to": ["digits"]}},
        {"checkpoint": whole["checkpoint"] | {"sha256": "0"}},
        {"data": whole["data"] | {"fingerprint": "0"}},
        {"others": {other: "0"}},
    ):
        path.write_text(json.dumps(whole | part))
        assert not is_reported(), part
        assert is_made_again(), part
        assert is_reported()

    path.write_text(
        json.dumps(whole | {"checkpoint": {"sha256": "0"}, "data": {"fingerprint": "0"}, "others": {other: "0"}})
    )
    for gone in (checkpoint, Path(other), checkpoint.parents[1] / "config.yaml"):
        assert not is_reported()
        gone.unlink()
    assert is_reported()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"evaluations": {"kmn": {}}}, "no evaluation 'kmn'.*\n.*did you mean knn"),
        ({"evaluations": {"ood": {"against": "digits"}}}, "ood: against must be a list of data sets, got 'digits'"),
        ({"evaluations": {"shift": {"against": None}}}, "shift: against must be a list of data sets, got None"),
        ({"evaluations": {"knn": {"kk": 3}}}, "knn has no option 'kk'.*\n.*did you mean k"),
        ({"post_hoc": [{"where": {}, "rectifier": "gelu"}]}, "no rectifier 'gelu'"),
        ({"datasets": ["photos"]}, "no data set 'photos'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_training(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    study = Study.open(str(experiment_file(tmp_path, **changed)), "smoke", str(tmp_path / "runs"))
    with pytest.raises(ValueError, match=message):
        check_evaluations(study)


@pytest.mark.parametrize(
    ("evaluations", "message"),
    [
        ({"shift": {"against": ["no/imagenet-r"]}}, "shift looks at 'no/imagenet-r'.*nothing was started.*no folder /"),
        ({"ood": {"against": ["digits", "gone.npz"]}}, "ood looks at 'gone.npz'"),
        ({"transfer": {"to": ["dtd"]}}, "transfer looks at 'dtd'.*--download"),
        ({"sparsity": {"against": ["cifar10"]}}, "sparsity looks at 'cifar10'.*There is no CIFAR10"),
    ],
)
def test_data_that_are_not_there_are_missed_before_training(
    evaluations: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = experiment_file(tmp_path, evaluations=evaluations)
    command = ["experiment", "run", str(file), "--root", str(tmp_path / "runs"), "--datasets", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 1
    assert re.search(message, capsys.readouterr().err, re.DOTALL)
    assert not (tmp_path / "runs").exists()


def test_data_without_a_training_split_are_no_data_to_transfer_to(tmp_path: Path) -> None:
    file = tmp_path / "plain" / "class" / "image.png"
    file.parent.mkdir(parents=True)
    file.touch()
    plain = [str(tmp_path / "plain")]
    for evaluations in ({"shift": {"against": plain}}, {"transfer": {"to": plain}}):
        study = Study.open(str(experiment_file(tmp_path, evaluations=evaluations)), "smoke", str(tmp_path / "runs"))
        if "shift" in evaluations:
            check_data(study, DataSource())
            continue
        with pytest.raises(ValueError, match=r"transfer looks at .*no folder train"):
            check_data(study, DataSource())


def test_data_are_not_looked_for_when_nothing_is_to_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_experiment(tmp_path, profiles=profile(evaluations={"shift": {"against": ["no/such.npz"]}}))
    study = Study.open(str(file), "smoke", str(tmp_path / "runs"))
    finished(study)
    assert run(study, launcher="local", parallel=1, source=DataSource()) == 1
    assert "last.ckpt" in capsys.readouterr().err  # that of the evaluation, which has none here


def test_data_that_are_there_are_not_missed(tmp_path: Path) -> None:
    [path] = make_datasets(["photo_patches"], tmp_path).values()
    evaluations = {"ood": {"against": [path, "digits", "turned_digits"]}}
    file = experiment_file(tmp_path, evaluations=evaluations, datasets=["turned_digits"])
    check_data(Study.open(str(file), "smoke", str(tmp_path / "runs")), DataSource())
    assert not (tmp_path / "runs").exists()


def test_a_damaged_checkpoint_is_said_and_the_other_runs_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    def subject_of(variant: Variant, _: DataSource) -> Variant:
        if variant.entry.seed == 0:
            load_checkpoint(variant.checkpoint)
        return variant

    def evaluate_one(subject: Variant, *_: Any) -> None:
        made.append(subject.entry.id)
        if len(made) == 1:
            torch.linalg.cholesky(-torch.eye(2))

    monkeypatch.setattr("rectified_lpjepa.experiment.run._subject", subject_of)
    monkeypatch.setattr("rectified_lpjepa.experiment.run.evaluate_one", evaluate_one)
    file = write_experiment(tmp_path, profiles=profile(evaluations={"knn": {}}))
    study = Study.open(str(file), "smoke", str(tmp_path / "runs"))
    loaded = finished(study)
    for entry in loaded.plan.current:
        checkpoint = Path(entry.run_dir) / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir()
        checkpoint.write_bytes(b"cut off")
    assert evaluate_finished(study, DataSource()) == 1
    assert made == [entry.id for entry in loaded.plan.current if entry.seed == 1]
    said = capsys.readouterr().err
    assert said.count("last.ckpt") >= 2
    assert said.count("error: knn: linalg.cholesky") == 1


def test_an_evaluation_that_fails_is_said_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    def evaluate_one(subject: None, name: str, options: dict[str, Any], out: Path) -> None:
        if name == "knn":
            raise ValueError("too few samples")
        made.append((out.parent.name, options))

    monkeypatch.setattr("rectified_lpjepa.experiment.run._subject", lambda *_: None)
    monkeypatch.setattr("rectified_lpjepa.experiment.run.evaluate_one", evaluate_one)
    file = write_experiment(tmp_path, profiles=profile(evaluations={"knn": {}, "sparsity": {"pairs": 2}}))
    loaded = finished(Study.open(str(file), "smoke", str(tmp_path / "runs")))
    with pytest.raises(SystemExit) as stop:
        main(["experiment", "run", str(file), "--root", str(tmp_path / "runs")])
    assert stop.value.code == 1
    assert capsys.readouterr().err.count("error: knn: too few samples") == 4
    assert made == [(entry.id, {"pairs": 2}) for entry in loaded.plan.current]
