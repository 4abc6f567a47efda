"""Checkpoints: whole or not at all, read without running code, and enough to go on bit for bit."""

import os
import pickle
import shutil
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from tiny_run import TinyModule, batches, fit, tiny_trainer

from rectified_lpjepa.callbacks import AtomicCheckpointIO, RunCheckpoint

GOOD = {"state_dict": {"weight": torch.arange(1000.0)}, "epoch": 3, "names": ["a", "b"]}


class Ran:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)
    return path


def test_what_was_saved_is_read_back(saved):
    read = AtomicCheckpointIO().load_checkpoint(saved)
    torch.testing.assert_close(read.pop("state_dict"), GOOD["state_dict"], rtol=0, atol=0)
    assert read == {"epoch": 3, "names": ["a", "b"]}
    assert [file.name for file in saved.parent.iterdir()] == ["last.ckpt"]


def _fill_the_disk(checkpoint, file):
    file.write(b"half of it")
    raise OSError(28, "No space left on device")


def _interrupt(checkpoint, file):
    file.write(b"half of it")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("save", "error"), [(_fill_the_disk, OSError), (_interrupt, KeyboardInterrupt)])
def test_a_failed_write_leaves_the_former_file(saved, monkeypatch, save, error):
    before = saved.read_bytes()
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(error):
        AtomicCheckpointIO().save_checkpoint({"epoch": 4}, saved)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["last.ckpt"]


def test_what_cannot_be_pickled_leaves_the_former_file(saved):
    before = saved.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"function": lambda: None}, saved)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["last.ckpt"]


def test_leftovers_of_a_killed_process_are_overwritten(saved):
    (saved.parent / ".last.ckpt.tmp").write_bytes(b"killed here" * 10000)
    AtomicCheckpointIO().save_checkpoint({"epoch": 4}, saved)
    assert AtomicCheckpointIO().load_checkpoint(saved) == {"epoch": 4}
    assert [file.name for file in saved.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.skipif(os.name != "posix", reason="folders are synchronised on POSIX only")
def test_the_file_is_on_disk_before_it_is_renamed_and_the_folder_after(saved, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def spied_fsync(descriptor):
        events.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        fsync(descriptor)

    def spied_replace(self, target):
        events.append("rename")
        return replace(self, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell a file from a folder")
    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(Path, "replace", spied_replace)
    AtomicCheckpointIO().save_checkpoint(GOOD, saved)
    assert events == ["file", "rename", "folder"]


def test_storage_options_are_refused(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint(GOOD, tmp_path / "a.ckpt", storage_options={"x": 1})


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.95, 1.0])
def test_a_truncated_file_is_named(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: min(int(keep * len(content)), len(content) - 1)])
    with pytest.raises(ValueError, match=rf"'{saved}' is damaged or truncated .*epoch-….ckpt"):
        AtomicCheckpointIO().load_checkpoint(saved)


@pytest.mark.parametrize("inside", [b"state_dict", torch.arange(500.0, 510.0).numpy().tobytes()])
def test_a_single_flipped_bit_is_noticed(saved, inside):
    content = bytearray(saved.read_bytes())
    content[content.index(inside) + 1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=rf"'{saved}' is damaged or truncated"):
        AtomicCheckpointIO().load_checkpoint(saved)


def test_another_kind_of_archive_is_named(tmp_path):
    np.savez(tmp_path / "features.npz", x=np.arange(3))
    with pytest.raises(ValueError, match=r"features.npz' is damaged or truncated"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "features.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint '.*absent.ckpt'.*last.ckpt"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("weights_only", [None, False, True])
def test_code_in_a_checkpoint_is_never_run(tmp_path, weights_only):
    path, trace = tmp_path / "evil.ckpt", tmp_path / "trace"
    torch.save({"state_dict": {}, "surprise": Ran(trace)}, path)
    with pytest.raises(ValueError, match=r"evil.ckpt' was refused: it holds Python objects"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=weights_only)
    assert not trace.exists()


class Counter(pl.Callback):
    """Counts validations, in the checkpoint."""

    def __init__(self) -> None:
        self.validations = 0

    def on_validation_end(self, trainer, pl_module):
        self.validations += not trainer.sanity_checking

    def state_dict(self):
        return {"validations": self.validations}

    def load_state_dict(self, state_dict):
        self.validations = state_dict["validations"]


def run(path, max_epochs, ckpt_path=None, every_n_epochs=2, **arguments):
    callbacks = [RunCheckpoint(every_n_epochs), Counter()]
    trainer = tiny_trainer(path, callbacks, max_epochs, plugins=[AtomicCheckpointIO()], **arguments)
    module = fit(trainer, TinyModule(), ckpt_path=ckpt_path)
    return trainer, module


def test_keeps_the_last_and_every_few_epochs(tmp_path):
    run(tmp_path, 5)
    folder = tmp_path / "checkpoints"
    kept = ["epoch-0002.ckpt", "epoch-0004.ckpt", "last.ckpt", "previous.ckpt"]
    assert sorted(file.name for file in folder.iterdir()) == kept
    assert (folder / "last.ckpt").lstat().st_nlink == 1
    assert not (folder / "last.ckpt").is_symlink()
    epochs = [AtomicCheckpointIO().load_checkpoint(file)["epoch"] for file in sorted(folder.iterdir())]
    assert epochs == [2, 4, 5, 4]


@pytest.mark.parametrize("every", [0, 1])
def test_keeps_none_or_all(tmp_path, every):
    run(tmp_path, 2, every_n_epochs=every)
    kept = sorted(file.name for file in (tmp_path / "checkpoints").glob("epoch-*"))
    assert kept == ([] if every == 0 else ["epoch-0001.ckpt", "epoch-0002.ckpt"])


def test_is_written_after_the_validation_of_its_epoch(tmp_path):
    run(tmp_path, 3)
    for name, validations in (("epoch-0002", 2), ("last", 3)):
        checkpoint = AtomicCheckpointIO().load_checkpoint(tmp_path / "checkpoints" / f"{name}.ckpt")
        assert checkpoint["callbacks"]["Counter"] == {"validations": validations}


def test_validating_the_last_checkpoint_repeats_the_logged_numbers(tmp_path):
    trainer, _ = run(tmp_path, 3)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    trainer = tiny_trainer(tmp_path, [RunCheckpoint(), Counter()], plugins=[AtomicCheckpointIO()])
    path = tmp_path / "checkpoints" / "last.ckpt"
    (result,) = trainer.validate(TinyModule(), batches(2, seed=1), ckpt_path=path, verbose=False)
    assert result == logged


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path):
    _, whole = run(tmp_path / "whole", 4)
    run(tmp_path / "run", 2)
    shutil.move(tmp_path / "run", tmp_path / "moved")  # a moved run directory is still the same run
    trainer, resumed = run(tmp_path / "moved", 4, ckpt_path=tmp_path / "moved" / "checkpoints" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert trainer.global_step == 16
    assert next(callback for callback in trainer.callbacks if isinstance(callback, Counter)).validations == 4
    one, other = (
        AtomicCheckpointIO().load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")
        for name in ("whole", "moved")
    )
    for states in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        assert states[0]["param_groups"] == states[1]["param_groups"]
        torch.testing.assert_close(states[0]["state"], states[1]["state"], rtol=0, atol=0)
    assert one["lr_schedulers"] == other["lr_schedulers"]
    assert one["loops"]["fit_loop"] == other["loops"]["fit_loop"]


@pytest.mark.parametrize("logged", [False, True])
def test_last_is_found_by_its_short_name(tmp_path, logged):
    logger = CSVLogger(tmp_path, name=None, version="logs") if logged else False
    run(tmp_path, 1, logger=logger)
    trainer, _ = run(tmp_path, 2, ckpt_path="last", logger=logger)
    assert trainer.ckpt_path == str(tmp_path / "checkpoints" / "last.ckpt")
    assert trainer.global_step == 8


def test_another_folder_can_be_given(tmp_path):
    trainer = tiny_trainer(tmp_path / "run", [RunCheckpoint(dirpath=str(tmp_path / "elsewhere"))], 1)
    fit(trainer, TinyModule())
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["last.ckpt"]
    assert trainer.checkpoint_callback.last_model_path == str(tmp_path / "elsewhere" / "last.ckpt")


def test_a_trial_of_one_batch_writes_nothing(tmp_path):
    run(tmp_path, 1, fast_dev_run=True)
    assert not (tmp_path / "checkpoints").exists()


def test_refuses_a_negative_period():
    with pytest.raises(ValueError, match=r"every_n_epochs=-1\) must be at least 0"):
        RunCheckpoint(-1)
