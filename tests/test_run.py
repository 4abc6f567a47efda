"""Run directories: identity, refusal, resumption, forking."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rectified_lpjepa.identity import differences, identity, identity_hash, is_identity_option
from rectified_lpjepa.run import Run, RunDirectory
from rectified_lpjepa.sweep.status import is_running


def identify(config: dict[str, Any], fingerprint: str | None = "0123") -> dict[str, Any]:
    return identity(config, fingerprint)


def configuration(**changes: Any) -> dict[str, Any]:
    config = {
        "seed_everything": 0,
        "model": {"optimizer": {"lr": 0.1}, "rectifier": "relu"},
        "data": {"class_path": "NpzDataModule", "init_args": {"path": "/a/set.npz", "batch_size": 8, "num_workers": 0}},
        "trainer": {"max_epochs": 2, "devices": "auto", "num_nodes": 1},
    }
    for path, value in changes.items():
        *groups, key = path.split("__")
        place = config
        for group in groups:
            place = place[group]
        place[key] = value
    return config


@pytest.mark.parametrize(
    "change",
    [
        {"trainer__devices": 4},
        {"trainer__num_nodes": 2},
        {"data__init_args__num_workers": 3},
        {"model__compile": True},
        {"data__init_args__path": "/elsewhere/set.npz"},
        {"data__init_args__local_crops": {"num": 0, "size": 7}},
    ],
)
def test_runtime_keys_do_not_change_the_identity(change: dict[str, Any]) -> None:
    assert identify(configuration(**change)) == identify(configuration())


@pytest.mark.parametrize(
    "change",
    [
        {"seed_everything": 1},
        {"model__rectifier": "none"},
        {"trainer__max_epochs": 3},
        {"data__init_args__batch_size": 9},
        {"data__init_args__local_crops": {"num": 2}},
        {"data__class_path": "ImageFolderDataModule"},
    ],
)
def test_identity_keys_change_the_identity_and_the_hash(change: dict[str, Any]) -> None:
    changed, given = identify(configuration(**change)), identify(configuration())
    assert identity_hash(changed) != identity_hash(given)
    assert len(differences(given, changed)) == 1


@pytest.mark.parametrize(
    ("option", "decides"),
    [
        ("seed_everything", True),
        ("trainer.max_epochs", True),
        ("trainer.devices", False),
        ("model.optimizer.lr", True),
        ("model.compile", False),
        ("data", True),
        ("data.init_args.batch_size", True),
        ("data.batch_size", True),
        ("data.init_args.num_workers", False),
        ("data.path", False),
        ("figures.every_n_epochs", False),
    ],
)
def test_options_are_of_the_same_two_kinds(option: str, decides: bool) -> None:
    assert is_identity_option(option) is decides


def test_the_content_of_the_data_is_a_part_of_the_identity_and_their_place_is_not() -> None:
    assert differences(identify(configuration()), identify(configuration(), "4567")) == [
        "data.fingerprint: 0123 → 4567"
    ]


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    given = identify(configuration())
    assert identity_hash(dict(reversed(given.items()))) == identity_hash(given)


def test_differences_name_key_old_and_new() -> None:
    lines = differences(identify(configuration()), identify(configuration(model__optimizer={"lr": 0.2, "decay": 1.0})))
    assert lines == ["model.optimizer.decay: (absent) → 1.0", "model.optimizer.lr: 0.1 → 0.2"]


def test_a_new_run_has_no_checkpoint_and_leaves_its_identity(tmp_path: Path) -> None:
    given = identify(configuration())
    directory = RunDirectory(Run(name="x", root=str(tmp_path)), given)
    assert directory.open() is None
    assert directory.path.name == f"x-{identity_hash(given)}"
    assert json.loads((directory.path / "identity.json").read_text()) == given
    assert directory.result is None


def leave_checkpoint(directory: RunDirectory) -> None:
    directory.last_checkpoint.parent.mkdir(parents=True)
    torch.save({"weights": torch.ones(3)}, directory.last_checkpoint)
    directory.close()


def test_a_stopped_run_goes_on_and_a_fresh_one_starts_over(tmp_path: Path) -> None:
    given = identify(configuration())
    directory = RunDirectory(Run(root=str(tmp_path)), given)
    directory.open()
    leave_checkpoint(directory)
    again = RunDirectory(Run(root=str(tmp_path)), given)
    assert again.open() == directory.last_checkpoint
    again.close()
    (directory.path / "notes.txt").write_text("mine")
    assert RunDirectory(Run(root=str(tmp_path), fresh=True), given).open() is None
    assert not directory.last_checkpoint.exists()
    assert (directory.path / "notes.txt").exists()
    assert (directory.path / "identity.json").exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_another_identity_is_refused_with_the_difference_and_nothing_is_lost(tmp_path: Path, fresh: bool) -> None:
    settings = Run(dir=str(tmp_path / "here"), fresh=fresh)
    directory = RunDirectory(Run(dir=str(tmp_path / "here")), identify(configuration()))
    directory.open()
    leave_checkpoint(directory)
    before = directory.last_checkpoint.read_bytes()
    with pytest.raises(ValueError, match=r"model\.optimizer\.lr: 0\.1 → 0\.2[\s\S]*--run\.fork_from"):
        RunDirectory(settings, identify(configuration(model__optimizer={"lr": 0.2}))).check()
    assert directory.last_checkpoint.read_bytes() == before


def test_a_fork_starts_from_the_other_checkpoint_and_then_from_its_own(tmp_path: Path) -> None:
    source = tmp_path / "source.ckpt"
    source.write_bytes(b"weights")
    settings = Run(root=str(tmp_path), fork_from=str(source))
    directory = RunDirectory(settings, identify(configuration()))
    assert directory.open() == source
    leave_checkpoint(directory)
    assert RunDirectory(settings, identify(configuration())).open() == directory.last_checkpoint


def test_a_missing_fork_is_named(tmp_path: Path) -> None:
    directory = RunDirectory(Run(root=str(tmp_path), fork_from="nowhere.ckpt"), identify(configuration()))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ckpt"):
        directory.open()


def test_a_look_at_the_lock_does_not_hinder_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = RunDirectory(Run(dir=str(tmp_path)), identify(configuration()))
    with (tmp_path / "running.lock").open("a+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(ValueError, match="is in progress"):
            directory.open()
        # The look ends while the start waits for a moment.
        monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))
        assert directory.open() is None
        assert is_running(tmp_path)
        directory.close()
        assert not is_running(tmp_path)
