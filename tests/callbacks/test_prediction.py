"""The file of predicted features: every sample once, in the order of the data set."""

from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from tiny_run import Batches, tiny_trainer
from torch.utils.data import DataLoader, Dataset

from rectified_lpjepa.callbacks import FeatureWriter


class Features(pl.LightningModule):
    """Gives features that follow from the place of a sample in the data set."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.features = dtype

    def predict_step(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        encoder = torch.stack([batch, batch**2, -batch], dim=1).to(self.features)
        return {
            "encoder": encoder,
            "preactivations": encoder[:, :2] - 1,
            "projector": encoder[:, :2],
            "labels": batch % 3 - 1,
            "indices": batch,
        }


class Places(Dataset):
    def __getitem__(self, request: list[int]) -> torch.Tensor:
        return torch.tensor(request)

    def __len__(self) -> int:
        return 10


def loader():
    # Batches are asked for by the sampler, out of order and of unequal sizes.
    return DataLoader(Places(), batch_size=None, sampler=[[7, 1, 4], [0, 9, 2], [8, 6], [5, 3]])


def expected(count=10):
    place = np.arange(count)
    return {
        "encoder": np.stack([place, place**2, -place], axis=1).astype(np.float32),
        "preactivations": np.stack([place - 1, place**2 - 1], axis=1).astype(np.float32),
        "projector": np.stack([place, place**2], axis=1).astype(np.float32),
        "labels": place % 3 - 1,
        "indices": place,
    }


def assert_holds(path, arrays):
    with np.load(path, allow_pickle=False) as read:
        assert set(read.files) == set(arrays)
        for name, values in arrays.items():
            np.testing.assert_array_equal(read[name], values, err_msg=name)
            assert read[name].dtype == values.dtype


def test_writes_one_file_in_the_order_of_the_data_set(tmp_path, capsys):
    tiny_trainer(tmp_path, [FeatureWriter()]).predict(Features(), loader(), return_predictions=False)
    path = tmp_path / "features.npz"
    assert_holds(path, expected())
    assert f"Features: {path}" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir() if "features" in file.name] == ["features.npz"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_features_are_float32_whatever_the_precision(tmp_path, dtype):
    path = tmp_path / "new" / "small.npz"
    trainer = tiny_trainer(tmp_path, [FeatureWriter(str(path))])
    trainer.predict(Features(dtype), Batches([torch.arange(3), torch.arange(3, 5)]), return_predictions=False)
    assert_holds(path, expected(5))


def test_predicting_twice_replaces_the_file(tmp_path):
    trainer = tiny_trainer(tmp_path, [FeatureWriter()])
    for count in (5, 3):
        trainer.predict(Features(), Batches([torch.arange(count)]), return_predictions=False)
        assert_holds(tmp_path / "features.npz", expected(count))


def share_of(rank, path, places):
    """Let the writer of one of three processes run up to the writing of its share, or of the whole on the first."""
    strategy = SimpleNamespace(broadcast=lambda value: value, barrier=lambda *_: None)
    trainer = SimpleNamespace(
        world_size=3, global_rank=rank, is_global_zero=rank == 0, strategy=strategy, default_root_dir=path
    )
    writer, module = FeatureWriter(), Features()
    writer.on_predict_start(trainer, module)
    for batch in places:
        writer.on_predict_batch_end(trainer, module, module.predict_step(torch.tensor(batch)), None, 0)
    writer.on_predict_epoch_end(trainer, SimpleNamespace(print=lambda *_: None))


def test_shares_of_several_processes_are_merged_each_sample_once(tmp_path):
    np.savez(tmp_path / ".features.2.part.npz", **{name: values + 90 for name, values in expected(3).items()})
    share_of(2, tmp_path, [])  # more processes than batches, and the share of a killed process at its place
    share_of(1, tmp_path, [[1, 3], [5, 7, 0]])  # 0 was given out twice to fill up the batch
    share_of(0, tmp_path, [[0, 2], [4, 6]])
    assert_holds(tmp_path / "features.npz", expected(8))
    assert [file.name for file in tmp_path.iterdir()] == ["features.npz"]


def test_a_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "features.npz"
    path.write_bytes(b"former")

    def fill_the_disk(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        tiny_trainer(tmp_path, [FeatureWriter()]).predict(Features(), Batches([torch.arange(3)]))
    assert path.read_bytes() == b"former"
    assert [file.name for file in tmp_path.iterdir()] == ["features.npz"]


def test_refuses_another_kind_of_file():
    with pytest.raises(ValueError, match=r"path='features.h5'\) must end in '.npz'"):
        FeatureWriter("features.h5")
