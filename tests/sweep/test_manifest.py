"""The manifest: names, numbers that never change, and when a point is another run."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweeps import BASE, MU, P, planned, write_sweep

from rectified_lpjepa.sweep.manifest import as_argument, read_manifest, short_names, shown


def test_a_line_holds_what_runs_a_point(tmp_path: Path) -> None:
    _, folder, plan = planned(write_sweep(tmp_path, options={"trainer.max_epochs": 3}, grid={MU: [-1.0]}, seeds=[2]))
    (entry,) = read_manifest(folder.manifest)
    assert [entry] == plan.entries == plan.current == plan.added
    assert entry.id == f"mu=-1,seed=2_{entry.key}"
    assert entry.run_dir == str(tmp_path / "runs" / "tiny" / "points" / entry.id)
    fit, flag, config, *options = entry.argv
    assert (fit, flag) == ("fit", "--config")
    assert Path(config).read_text() == BASE
    assert Path(config).parent == tmp_path / "runs" / "tiny" / "configs"
    assert options == ["--trainer.max_epochs=3", f"--{MU}=-1.0", "--seed_everything=2", f"--run.dir={entry.run_dir}"]


def test_numbers_stay_when_the_file_changes(tmp_path: Path) -> None:
    _, folder, first = planned(write_sweep(tmp_path, grid={MU: [0, -1, -2]}))
    _, _, second = planned(write_sweep(tmp_path, grid={MU: [-3.0, -2.0, 0.0]}))  # 0 and 0.0 are the same
    assert [entry.id.split(",")[0] for entry in second.current] == ["mu=-3", "mu=-2", "mu=0"]
    assert [entry.index for entry in second.current] == [3, 2, 0]
    assert [entry.index for entry in second.added] == [3]
    assert [entry.index for entry in second.removed] == [1]
    assert [entry.id for entry in second.entries[:3]] == [entry.id for entry in first.entries]
    assert read_manifest(folder.manifest) == second.entries
    _, _, third = planned(write_sweep(tmp_path, grid={MU: [0, -1, -2]}))
    assert [entry.index for entry in third.current] == [0, 1, 2]
    assert (third.added, [entry.index for entry in third.removed]) == ([], [3])


@pytest.mark.parametrize(
    ("base", "options", "same"),
    [
        (BASE + "# a comment", {}, True),
        (BASE.replace("num_workers: 0", "num_workers: 4"), {}, True),
        (BASE.replace("seed_everything: 7", "seed_everything: 8"), {}, True),  # the sweep's seeds come first
        (BASE, {"data.num_workers": 2, "trainer.accelerator": "cpu", "figures.every_n_epochs": 9}, True),
        (BASE.replace("lr: 0.1", "lr: 0.2"), {}, False),
        (BASE.replace("batch_size: 32", "batch_size: 64"), {}, False),
        (BASE, {"model.optimizer.lr": 0.3}, False),
        (BASE, {"trainer.precision": "bf16-mixed"}, False),
    ],
)
def test_a_point_is_another_run_when_what_decides_its_numbers_changes(
    tmp_path: Path, base: str, options: dict[str, object], same: bool
) -> None:
    _, _, first = planned(write_sweep(tmp_path, grid={MU: [0.0]}, seeds=[1]))
    _, _, second = planned(write_sweep(tmp_path, base, grid={MU: [0.0]}, seeds=[1], options=options))
    assert ([entry.key for entry in first.current] == [entry.key for entry in second.current]) is same
    assert len(second.entries) == (1 if same else 2)
    # The line of the manifest says how the point is run now; the older configuration is kept for older lines.
    (entry,) = second.current
    assert Path(entry.argv[2]).read_text() == base
    assert all(Path(line.argv[2]).exists() for line in second.entries)


def test_paths_that_vary_make_different_points_and_the_same_point_twice_is_refused(tmp_path: Path) -> None:
    _, _, plan = planned(write_sweep(tmp_path, grid={"data.path": ["/sets/a.npz", "/sets/b.npz"]}))
    assert [entry.id.split(",")[0] for entry in plan.current] == ["path=a", "path=b"]
    with pytest.raises(ValueError, match="same run twice: mu=0,seed=7"):
        planned(write_sweep(tmp_path, grid={MU: [0, 0.0]}))


def test_options_are_named_by_as_few_parts_as_tell_them_apart() -> None:
    options = ("model.optimizer.name", "model.backbone.name", MU, P)
    assert list(short_names(options).values()) == ["optimizer.name", "backbone.name", "mu", "p"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1e-5, "1e-05"),
        (None, "null"),
        (True, "true"),
        ("rectified_lpjepa.objectives.RDMReg", "RDMReg"),
        ("resnet18.a1_in1k", "resnet18.a1_in1k"),
        ({"class_path": "a.b.VICReg", "init_args": {}}, "VICReg"),
        ([64, 0.5], "64+0.5"),
    ],
)
def test_values_are_shown_in_short(value: object, text: str) -> None:
    assert shown(value) == text


def test_names_are_safe_for_folders(tmp_path: Path) -> None:
    _, _, plan = planned(write_sweep(tmp_path, grid={"model.objective": ["a b/c d", "x" * 300]}))
    for entry in plan.current:
        assert len(entry.id) < 128
        assert "/" not in entry.id
        assert " " not in entry.id


def test_arguments_keep_their_types() -> None:
    values = [None, True, -1e-05, 3, "relu", [1, 2], {"kind": "random"}]
    assert [as_argument("a.b", value).partition("=")[2] for value in values] == [
        "null", "true", "-1e-05", "3", "relu", "[1, 2]", '{"kind": "random"}',
    ]  # fmt: skip
