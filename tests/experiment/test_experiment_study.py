"""What an experiment knows of its runs, and ``experiment.json``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from studies import ACCURACY, L0, finished, profile, write_experiment
from sweeps import MU

import rectified_lpjepa
from rectified_lpjepa import source
from rectified_lpjepa.evaluation.run import with_defaults
from rectified_lpjepa.experiment.stored import StoredEvaluations
from rectified_lpjepa.experiment.study import FILE, Study
from rectified_lpjepa.experiment.summary import summary


def opened(folder: Path, given: dict[str, Any] | None = None, **content: Any) -> Study:
    return Study.open(str(write_experiment(folder, **content)), "smoke", str(folder / "runs"), given)


def written(study: Study) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((study.folder / FILE).read_text())
    return content


def write_evaluation(run: Path, metrics: dict[str, float | None], sha256: str = "", **options: Any) -> None:
    """Leave what an evaluation by kNN leaves in the directory of a run."""
    record = {
        "metrics": metrics,
        "options": with_defaults("knn", options),
        "checkpoint": {"sha256": sha256},
        "seed": 0,
        "versions": {"rectified_lpjepa": rectified_lpjepa.__version__},
        "others": {},
    }
    (run / "evaluation").mkdir(parents=True, exist_ok=True)
    (run / "evaluation" / "knn.json").write_text(json.dumps(record))


def test_a_tolerance_of_zero_is_kept_and_what_a_figure_does_not_say_is_not(tmp_path: Path) -> None:
    figure = {"kind": "l0_over_target", "series": {"all": {"mu": None}}, "within": 0, "relative": 0.15}
    study = opened(tmp_path, figures=[figure])
    finished(study)
    study.write()
    assert written(study)["figures"] == [figure]


def test_the_file_of_an_experiment_holds_what_a_report_needs(tmp_path: Path) -> None:
    labels = [{"label": "zero", "where": {"mu": 0}}]
    evaluations = {"knn": {}, "rank": {}}
    study = opened(tmp_path, {"data.init_args.path": "a.npz"}, labels=labels, profiles=profile(evaluations=evaluations))
    loaded = finished(study)
    first = Path(loaded.plan.current[0].run_dir)
    write_evaluation(first, {"encoder/knn20/top1": 0.7, "x": None})
    (first / "csv").mkdir()
    rows = "step,train/loss,train/probe_encoder/top1,val/x\n1,2.0,0.25,\n1,,,3\n2,4.0,0.75,\n"
    (first / "csv" / "metrics.csv").write_text(rows)

    study.write()
    content = written(study)
    assert {content[key] for key in ("experiment", "number", "profile")} == {"07_tiny", "07", "smoke"}
    assert content["varied"] == ["mu"]
    assert content["hardware"] == "a machine"
    assert content["versions"] == {"torch": "2.0"}
    assert content["command"] == (
        f"rectified-lpjepa experiment run 07_tiny --profile smoke --root {tmp_path / 'runs'} "
        "--set data.init_args.path=a.npz"
    )
    assert content["columns"][0] == {"metric": ACCURACY, "label": "encoder", "unit": "%"}
    assert content["figures"] == [{"kind": "bars", "metric": ACCURACY}]
    assert [row["label"] for row in content["published"]] == ["theirs", "another"]
    assert content["conditions"] == [
        {
            "text": "ℓ0 rises",
            "holds": True,
            "measured": "mu=-1 0.25 ± 0, mu=0 0.5 ± 0",
            "metric": L0,
            "cells": [],
        },
    ]
    assert [(point["label"], point["values"], point["seed"]) for point in content["points"]] == [
        ("zero", {"mu": 0}, 0),
        ("zero", {"mu": 0}, 1),
        ("mu=-1", {"mu": -1}, 0),
        ("mu=-1", {"mu": -1}, 1),
    ]
    point = content["points"][0]
    assert study.folder / point["run_dir"] == first
    assert point["metrics"][ACCURACY] == 0.5
    assert point["metrics"]["knn/encoder/knn20/top1"] == 0.7
    assert "knn/x" not in point["metrics"]
    assert point["metrics"]["epochs_mean/train/probe_encoder/top1"] == 0.5
    assert "epochs_mean/train/probe_projector/top1" not in point["metrics"]
    assert [remark["measured"] for remark in point["remarks"]] == [
        "16 directions",
        "4 in the last epoch, 2 in epoch 1",
    ]


def test_an_evaluation_of_other_weights_or_with_other_options_does_not_count(tmp_path: Path) -> None:
    study = opened(tmp_path, profiles=profile(evaluations={"knn": {"k": 5}}))
    run = Path(finished(study).plan.current[0].run_dir)

    def found() -> float | None:
        study.write()
        value: float | None = written(study)["points"][0]["metrics"].get("knn/top1")
        return value

    write_evaluation(run, {"top1": 0.7}, "0", k=5)
    assert found() == 0.7
    write_evaluation(run, {"top1": 0.7}, "0", k=20)
    assert found() is None
    checkpoint = run / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    write_evaluation(run, {"top1": 0.7}, hashlib.sha256(b"weights").hexdigest(), k=5)
    assert found() == 0.7
    checkpoint.write_bytes(b"other weights")
    assert found() is None
    (run / "evaluation" / "knn.json").write_text("cut o")
    assert found() is None


def test_data_sets_that_were_made_may_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "ood.json"
    elsewhere = "elsewhere/datasets/photo_patches.npz"
    record = {
        "metrics": {"x": 1.0},
        "options": with_defaults("ood", {"against": [elsewhere]}),
        "seed": 0,
        "versions": {"rectified_lpjepa": rectified_lpjepa.__version__},
        "others": {elsewhere: "0"},
    }
    path.write_text(json.dumps(record))

    def found(datasets: list[str]) -> dict[str, float]:
        stored = StoredEvaluations(datasets, tmp_path)
        return stored.metrics(path, "ood", {"against": ["photo_patches"]}, checkpoint=tmp_path / "last.ckpt", seed=0)

    assert found(["photo_patches"]) == {"x": 1.0}
    assert found([]) == {}


def test_the_commits_of_the_runs_are_told_beside_that_of_the_report(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for entry, commit in zip(finished(study).plan.current, ("b", "a", "b", None), strict=True):
        file = Path(entry.run_dir) / "result.json"
        if commit is not None:
            file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": commit}))
    study.write()
    assert written(study)["commit"] == "a, b, unknown"
    assert written(study)["report_commit"] == source.commit()


def test_only_finished_runs_are_told_of(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.write()
    assert written(study)["points"] == []
    assert written(study)["conditions"][0]["holds"] is None
    loaded = finished(study)
    (Path(loaded.plan.current[0].run_dir) / "result.json").unlink()
    study.write()
    assert len(written(study)["points"]) == 3


def test_a_run_is_evaluated_once_more_with_another_rectifier(tmp_path: Path) -> None:
    content = profile(post_hoc=[{"where": {"mu": 0}}], evaluations={"knn": {}}, seeds=[0])
    labels = [{"label": "as it is", "where": {"mu": 0}}, {"label": "post hoc", "where": {"mu": 0, "post_hoc": "relu"}}]
    study = opened(tmp_path, profiles=content, labels=labels)
    finished(study)
    variants = list(study.finished(study.load()))
    assert [variant.post_hoc is None for variant in variants] == [True, False, True]
    assert variants[0].checkpoint == variants[1].checkpoint
    write_evaluation(variants[1].directory, {"top1": 0.3})
    study.write()
    plain, post_hoc, _ = written(study)["points"]
    assert (plain["label"], post_hoc["label"]) == ("as it is", "post hoc")
    assert post_hoc["values"] == {"mu": 0, "post_hoc": "relu"}
    assert post_hoc["metrics"] == {"knn/top1": 0.3}  # what training measured is of the features as they were
    assert plain["id"] != post_hoc["id"]


def test_what_belongs_to_other_profiles_is_left_out(tmp_path: Path) -> None:
    conditions = [{"text": "x", "metric": L0, "at_least": 0, "profiles": ["paper"]}]
    published = [{"label": "x", "metrics": {L0: 1}, "source": "y", "mark": "†", "profiles": ["cpu"]}]
    study = opened(tmp_path, conditions=conditions, published=published)
    study.write()
    assert (written(study)["conditions"], written(study)["published"]) == ([], [])


def test_a_class_among_the_values_is_shown_by_its_name(tmp_path: Path) -> None:
    points = [{MU: 0, "data": "a.b.DigitsDataModule", "model.backbone.kwargs": {"layers": [1, 2]}}]
    study = opened(tmp_path, profiles={"smoke": {"config": "base.yaml", "points": points}})
    finished(study)
    study.write()
    assert written(study)["points"][0]["values"] == {"mu": 0, "data": "DigitsDataModule", "kwargs": "layers:1+2"}


def test_the_summary_shows_ours_beside_theory_and_beside_what_is_published(tmp_path: Path) -> None:
    study = opened(tmp_path)
    finished(study)
    text = summary(study.write())
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["mu=0"] == ["mu=0", "2", "50.50", "±", "6.35", "60.00†", "0.5", "±", "0", "0.5"]
    assert lines["mu=-1"] == ["mu=-1", "2", "50.50", "±", "6.35", "0.25", "±", "0", "0.5"]
    assert lines["another"] == ["another", "65.00‡"]
    assert "† theirs: Table 1" in text
    assert "✓ ℓ0 rises" in text
    assert "4 points: 4 finished; mean" in text
    assert "4 points: 4 not started" in summary(opened(tmp_path / "empty").write())


@pytest.mark.parametrize("name", ["smoke", "paper"])
def test_what_is_wrong_is_refused_before_anything_is_done(tmp_path: Path, name: str) -> None:
    file = write_experiment(tmp_path)
    with pytest.raises(ValueError, match="no profile 'paper'" if name == "paper" else f"{MU} is set by the profile"):
        Study.open(str(file), name, str(tmp_path / "runs"), {MU: 1})
    assert not (tmp_path / "runs").exists()
