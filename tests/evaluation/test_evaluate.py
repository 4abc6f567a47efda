"""The command ``evaluate``, in process on a tiny run: what it prints, writes, skips and refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluated_run import write_config, write_run

from rectified_lpjepa.evaluation import run as run_module
from rectified_lpjepa.evaluation.command import make_parser, metric_table
from rectified_lpjepa.evaluation.features import Evaluation, Subject
from rectified_lpjepa.evaluation.records import read_evaluation, to_json
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.evaluation.run import evaluate
from rectified_lpjepa.main import main

QUICK = {"linear": {"lrs": [0.1], "weight_decays": [0.0]}, "knn": {"k": 5}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    write_run(folder, train_samples=120)
    return folder


@pytest.fixture
def command(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
        capsys.readouterr()
        main(["evaluate", *arguments, "--checkpoint", str(run / "checkpoints" / "last.ckpt"), "--accelerator", "cpu"])
        return capsys.readouterr().out

    return call


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    calls: list[Any] = []

    def counted(subject: Subject, k: int = 20) -> Evaluation:
        calls.append(k)
        return Evaluation(
            name, {}, {"encoder/x": math.nan, "encoder/y": 1.0, "encoder/y_target": 0.5}, {"z": [math.inf]}
        )

    monkeypatch.setitem(EVALUATIONS, name, counted)
    return calls


def test_it_prints_a_table_and_writes_json(command: Callable[..., str], run: Path) -> None:
    printed = command("knn", "--k", "5")
    path = run / "evaluation" / "knn.json"
    record = json.loads(path.read_text())
    assert printed.splitlines()[-1] == str(path)
    accuracy = record["metrics"]["encoder/knn5_cosine/top1"]
    assert ["encoder/knn5_cosine/top1", f"{accuracy:.4f}"] in [line.split() for line in printed.splitlines()]
    assert set(record) == {
        *("name", "protocol", "metrics", "details", "options", "seed", "checkpoint", "data", "seconds", "hardware"),
        *("versions", "time", "others"),
    }
    assert record["others"] == {}
    assert record["options"] == {"k": 5, "temperature": 0.07, "chunk": 256}
    assert (record["data"]["name"], record["data"]["train"], record["data"]["test"]) == ("digits", 120, 360)
    assert record["checkpoint"]["step"] == 2
    assert len(record["checkpoint"]["sha256"]) == 64
    assert record["seed"] == 3
    assert len(list((run / "features").iterdir())) == 2


def test_what_is_there_is_not_done_again(
    command: Callable[..., str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_calls(monkeypatch, "knn")
    assert "already there" not in command("knn")
    assert "already there" in command("knn")
    assert "already there" in command("knn", "--k", "20")
    assert calls == [20]
    command("knn", "--k", "4")
    command("knn", "--k", "4", "--seed", "9")
    assert calls == [20, 4, 4]
    path = run / "evaluation" / "knn.json"
    for damage in ("{", "[]", '{"metrics": 3}', ""):
        path.write_text(damage)
        assert "It is made anew" in command("knn", "--k", "4", "--seed", "9")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(checkpoint | {"global_step": 3}, run / "checkpoints" / "last.ckpt")
    command("knn", "--k", "4", "--seed", "9")
    assert calls == [20, *[4] * 7]
    assert json.loads(path.read_text())["checkpoint"]["step"] == 3


def test_what_was_found_on_data_that_changed_or_by_another_version_is_done_again(
    command: Callable[..., str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def opens(subject: Subject, to: list[str]) -> Evaluation:
        sizes = [len(subject.open(name).positions("train")) for name in to]
        calls.extend(sizes)
        return Evaluation("transfer", {}, {"encoder/x": float(sum(sizes))}, {"table": []})

    monkeypatch.setitem(EVALUATIONS, "transfer", opens)
    count_calls(monkeypatch, "knn")
    other, path = run / "other.npz", run / "evaluation" / "transfer.json"

    def write(samples: int) -> None:
        images, labels = np.zeros((samples, 8, 8), np.uint8), np.arange(samples) % 2
        np.savez(other, x_train=images, y_train=labels, x_test=images, y_test=labels)

    write(4)
    command("transfer", "--to", f"[{other}]")
    assert "already there" in command("transfer", "--to", f"[{other}]")
    write(6)
    assert "already there" not in command("transfer", "--to", f"[{other}]")
    assert "already there" in command("transfer", "--to", f"[{other}]")
    assert calls == [4, 6]
    assert list(json.loads(path.read_text())["others"]) == [str(other)]

    record = json.loads(path.read_text())
    del record["others"]
    path.write_text(json.dumps(record))
    command("transfer", "--to", f"[{other}]")
    with monkeypatch.context() as context:
        context.setattr(run_module.rectified_lpjepa, "__version__", "0.0.0")
        command("transfer", "--to", f"[{other}]")
    assert calls == [4, 6, 6, 6]
    other.unlink()
    with pytest.raises(SystemExit):
        command("transfer", "--to", f"[{other}]")


def test_what_is_not_finite_is_null_in_json_and_read_as_nan(
    command: Callable[..., str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_calls(monkeypatch, "knn")
    printed = command("knn")
    assert [line.split() for line in printed.splitlines()[:3]] == [
        ["measured", "target"],
        ["encoder/x", "undefined"],
        ["encoder/y", "1.0000", "0.5000"],
    ]
    path = run / "evaluation" / "knn.json"
    record = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert (record["metrics"]["encoder/x"], record["details"]["z"]) == (None, [None])
    read = read_evaluation(path)
    assert math.isnan(read.metrics["encoder/x"])
    assert read.metrics["encoder/y"] == 1.0
    path.write_text("{")
    with pytest.raises(ValueError, match="is damaged, or not of an evaluation"):
        read_evaluation(path)


def test_all_runs_what_applies_and_says_what_does_not(
    command: Callable[..., str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EVALUATIONS.keys() - {"knn", "few-shot", "transfer"}:
        monkeypatch.delitem(EVALUATIONS, name)
    write_config(run / "config.yaml", train_samples=60)
    printed = command("all")
    assert "knn: encoder/knn20_cosine/top1" in printed
    assert "few-shot left out: 10 shots were asked for, and class" in printed
    assert "transfer left out: it needs `--to`" in printed
    assert sorted(path.name for path in (run / "evaluation").iterdir()) == ["knn.json"]
    monkeypatch.delitem(EVALUATIONS, "knn")
    with pytest.raises(SystemExit) as stop:
        command("all")
    assert stop.value.code == 1


def test_all_goes_on_after_a_matrix_that_has_no_decomposition(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(subject: Subject) -> Evaluation:
        torch.linalg.inv(torch.zeros(2, 2))
        raise AssertionError("a singular matrix was inverted")

    for name in EVALUATIONS.keys() - {"rank", "knn"}:
        monkeypatch.delitem(EVALUATIONS, name)
    monkeypatch.setitem(EVALUATIONS, "rank", fails)
    count_calls(monkeypatch, "knn")
    printed = command("all")
    assert "rank left out: linalg.inv" in printed
    assert "knn: encoder/y" in printed


def test_what_deserves_attention_is_said(command: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {"preactivations/generalized_gaussian/ks_median": 0.2}

    def far(subject: Subject) -> Evaluation:
        return Evaluation("distribution", {}, metrics)

    monkeypatch.setitem(EVALUATIONS, "distribution", far)
    assert "far from generalised Gaussian" in command("distribution")
    assert "median Kolmogorov-Smirnov distance 0.200" in command("distribution")  # and of what is there already
    for name in set(EVALUATIONS) - {"distribution"}:
        monkeypatch.delitem(EVALUATIONS, name)
    assert "far from generalised Gaussian" in command("all")
    metrics["preactivations/generalized_gaussian/ks_median"] = 0.02
    assert "far from" not in command("distribution", "--seed", "8")


def test_other_data_have_a_folder_of_their_own(command: Callable[..., str], run: Path) -> None:
    command("knn", "--data", "digits")
    record = json.loads((run / "evaluation" / "digits" / "knn.json").read_text())
    assert record["data"]["train"] == 1437


def test_the_function_gives_what_the_command_writes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    found = evaluate(checkpoint, QUICK, out=tmp_path / "out", cache=tmp_path / "cache", accelerator="cpu")
    assert list(found) == ["linear", "knn"]
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert not (run / "features").exists()
    monkeypatch.setattr(run_module, "EVALUATIONS", {"linear": EVALUATIONS["linear"], "knn": EVALUATIONS["knn"]})
    again = evaluate(checkpoint, QUICK, out=tmp_path / "out", cache=tmp_path / "cache", accelerator="cpu")
    assert [dict(value.metrics) for value in again.values()] == [dict(value.metrics) for value in found.values()]


def test_a_timm_model_is_evaluated_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    count_calls(monkeypatch, "knn")
    main(["evaluate", "knn", "--model", "test_resnet", "--data", "digits", "--accelerator", "cpu"])
    path = Path(capsys.readouterr().out.splitlines()[-1])
    assert path.parent.parent.parent == Path("runs/evaluation")
    assert json.loads(path.read_text())["checkpoint"]["path"] == "timm/test_resnet"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["knm"], 2, "HINT: did you mean knn?"),
        ([], 2, "name an evaluation"),
        (["--k", "3"], 2, "name an evaluation"),
        (["knn", "--temprature", "1"], 2, "temprature: did you mean temperature?"),
        (["knn", "--k", "many"], 2, "many"),
        (["knn"], 1, "neither was given"),
        (["knn", "--model", "resnet18", "--checkpoint", "x.ckpt"], 1, "both was given"),
        (["knn", "--model", "resnet18"], 1, "on which data resnet18"),
        (["knn", "--checkpoint", "no.ckpt"], 1, "There is no checkpoint"),
    ],
)
def test_a_wrong_command_line_is_refused(
    refusal: Callable[..., str], arguments: list[str], code: int, message: str
) -> None:
    assert message in refusal("evaluate", *arguments, code=code)


def test_an_unknown_evaluation_or_option_is_refused_in_python(run: Path) -> None:
    wrong: tuple[tuple[dict[str, dict[str, Any]], str], ...] = (
        ({"knm": {}}, "no evaluation 'knm'"),
        ({"knn": {"j": 3}}, "unexpected keyword"),
        ({"transfer": {}}, "missing a required argument"),
    )
    for evaluations, message in wrong:
        with pytest.raises(ValueError, match=message):
            evaluate(run / "checkpoints" / "last.ckpt", evaluations, accelerator="cpu")


@pytest.mark.parametrize("name", [*EVALUATIONS, "all"])
def test_every_evaluation_has_a_parser_and_is_listed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {action.dest: action for action in make_parser(name)._actions}
    assert {"checkpoint", "data", "out", "devices"} <= options.keys()
    assert all(option.help for option in options.values())
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--help"])
    assert stop.value.code == 0
    assert f"\n  {name} " in capsys.readouterr().out


def test_the_table_is_aligned() -> None:
    lines = metric_table({"a": 0.5, "longer": 12345.678, "tiny": 1.5e-7}).splitlines()
    assert lines == ["a           0.5000", "longer  12345.6780", "tiny     1.500e-07"]


def test_json_of_nested_values() -> None:
    record = {"a": (1, math.nan, {"b": [math.inf, "x", None, True]})}
    assert json.loads(to_json(record)) == {"a": [1, None, {"b": [None, "x", None, True]}]}
