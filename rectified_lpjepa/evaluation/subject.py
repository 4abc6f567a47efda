"""A model and its data, as an evaluation looks at them: features that are computed once and kept in files."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.data.batches import UNLABELLED, Batch, Split
from rectified_lpjepa.evaluation.datasets import DataSource, data_name
from rectified_lpjepa.evaluation.extraction import (
    Arrays,
    Devices,
    Extractor,
    barrier,
    extract,
    is_first,
    read_features,
    said_by_first,
    with_channels,
)
from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.models import Model

_HASH_LENGTH = 16  # hexadecimal digits of hashes in the names of files
_ROUNDING = 1e-6  # of a mean or a standard deviation in float32
_LEFT = 24 * 60 * 60  # seconds without a change after which nobody writes a temporary file any more


class ModelSubject:
    """A :class:`~rectified_lpjepa.evaluation.features.Subject`: a model, its data, and a folder for their features.

    Args:
        model: see :func:`~rectified_lpjepa.evaluation.models.load_checkpoint`.
        data: the data set.
        folder: where features are kept, as ``<data>-<fingerprint>-<weights>-<split>.npz``; a file that is damaged, or
            of other samples, is made anew.
        source: where named data sets lie.
        devices: where to compute.
        seed: of every draw; None for that of the model's run.

    Attributes:
        opened: the :func:`fingerprint` of each data set that :meth:`open` has opened, by the name it was asked for.
    """

    def __init__(
        self,
        model: Model,
        data: TwoViewDataModule,
        folder: Path,
        *,
        source: DataSource = DataSource(),  # noqa: B008 - frozen
        devices: Devices = Devices(),  # noqa: B008 - frozen
        seed: int | None = None,
    ) -> None:
        self.model = model
        self.data = data
        self.law = model.law
        self.rectified = model.rectified
        self.seed = model.seed if seed is None else seed
        self.folder = folder
        self.opened: dict[str, str] = {}
        self._source = source
        self._devices = devices
        self.device: torch.device = devices.trainer(enable_progress_bar=False).strategy.root_device
        self._extractor = Extractor(model.network, model.in_channels).eval()
        self._own: dict[Split, FeatureSet] = {}

    def features(self, split: Split, data: TwoViewDataModule | None = None) -> FeatureSet:
        """Return the features of a split, each sample once and without augmentation; computed once, then kept.

        Args:
            split: ``train`` is the part that the model was trained on.
            data: another data set, as :meth:`open` gives it; None for the subject's own.
        """
        is_own = data is None or data is self.data
        if is_own and split in self._own:
            return self._own[split]
        data = data or self.data
        path = self.folder / f"{data_name(data)}-{fingerprint(data)}-{self.model.sha256[:_HASH_LENGTH]}-{split}.npz"
        positions = data.positions(split)
        arrays = read_features(path, positions)
        if said_by_first(arrays is None):
            made = self._extracted(data, lambda data: data.evaluation_loader(split))
            if is_first():
                made.replace(path)
            barrier()
            arrays = read_features(path, positions)
        assert arrays is not None
        features = _feature_set(arrays, data.num_classes)
        if is_own:
            self._own[split] = features
        return features

    def views(self, split: Split, samples: int, draw: int = 0) -> list[FeatureSet]:
        """Return the features of augmented views of some samples of the subject's data, one set for each view.

        Args:
            split: where to take the samples.
            samples: how many, evenly over the split; all of them where it has fewer.
            draw: number of the draw: another one gives other views of the same samples.
        """
        path = self._extracted(self.data, partial(_views_loader, split=split, samples=samples, draw=draw))
        with np.load(path, allow_pickle=False) as file:
            arrays: Arrays = dict(file)
        barrier()
        if is_first():
            path.unlink()
        shared = {"labels": arrays.pop("labels"), "indices": arrays.pop("indices")}
        views = range(arrays["encoder"].shape[1])
        return [
            _feature_set(shared | {name: value[:, view] for name, value in arrays.items()}, self.data.num_classes)
            for view in views
        ]

    def _extracted(self, data: TwoViewDataModule, loader: Callable[[TwoViewDataModule], DataLoader[Batch]]) -> Path:
        """Compute features, and return the file that holds them: a new one, as others may evaluate the same model."""
        if is_first():
            _remove_leftovers(self.folder)
        path = self.folder / f".{uuid.uuid4().hex}.npz"
        extract(self._extractor, data, loader, path, self._devices)
        return Path(said_by_first(str(path)))

    def batches(self, split: Split, data: TwoViewDataModule | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the images of a split, float32 in [0, 1] (B, C, S, S) on the device, and their labels, int64 (B,)."""
        data = data or self.data
        loader = data.evaluation_loader(split)
        for batch in tqdm(loader, desc=f"{data_name(data)} {split}", total=len(loader), leave=False, disable=None):
            views = data.on_after_batch_transfer(move_data_to_device(batch, self.device), 0)
            yield with_channels(views.images, self.model.in_channels), views.labels

    @torch.inference_mode()
    def embed(self, images: Tensor) -> FeatureSet:
        """Compute the features of images (B, C, S, S), float32 in [0, 1] and on the device; labels are -1."""
        features = self._extractor.to(self.device)(images)
        named = {name: value.float().cpu() for name, value in features.items()}
        return FeatureSet(labels=torch.full((len(images),), UNLABELLED), num_classes=None, **named)

    def open(self, name: str) -> TwoViewDataModule:
        """Open a data set at the model's image size; its images are given with the model's number of channels.

        Args:
            name: path of an ``.npz`` file or of an image folder, or one of
                :data:`~rectified_lpjepa.evaluation.datasets.NAMES`.
        """
        data = self._source.open(name, image_size=self.model.image_size, seed=self.seed)
        self.opened[name] = fingerprint(data)
        return data


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed evaluations were writing: their files have names that no other writes again."""
    for path in folder.glob(".*.npz*"):
        if time.time() - path.stat().st_mtime > _LEFT:
            path.unlink(missing_ok=True)


def _views_loader(data: TwoViewDataModule, *, split: Split, samples: int, draw: int) -> Any:
    return data.views_loader(split, samples, draw)


def _feature_set(arrays: Arrays, num_classes: int | None) -> FeatureSet:
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    del tensors["indices"]
    return FeatureSet(num_classes=num_classes, **tensors)


def fingerprint(data: TwoViewDataModule) -> str:
    """Identify the samples and the size of the images of a data set: 16 hexadecimal digits."""
    known: dict[str, Any] = {
        "class": f"{type(data).__module__}.{type(data).__qualname__}",
        "fingerprint": data.fingerprint,
        "train_samples": data.train_samples,
        "image_size": data.image_size,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:_HASH_LENGTH]


def run_directory(checkpoint: Path) -> Path:
    """Return the directory of the run that a checkpoint belongs to, or the folder it lies in if it is not a run's."""
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else folder


def data_of_run(checkpoint: Path, model: Model) -> TwoViewDataModule:
    """Open the data that a run was trained on, from the configuration in its directory.

    Args:
        checkpoint: of the run.
        model: of the checkpoint.

    Raises:
        FileNotFoundError: there is no configuration.
        ValueError: it cannot be read, or its data are not those that the model was built for: they have other channels,
            another size, another number of classes, or another mean or standard deviation.
    """
    path = run_directory(checkpoint) / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}, which would say on which data {checkpoint} was trained. HINT: name them with "
            "`--data`, such as `--data digits` or `--data images.npz`."
        )
    data = make_data(data_settings(path, seed=model.seed))
    given, built = _differing(data, model)
    if given:
        raise ValueError(
            f"{path} does not give the data that {checkpoint} was trained on: they have {', '.join(given)}, and the "
            f"model was built for {', '.join(built)}. It is the configuration of another run, or the data have changed "
            "since. HINT: name a checkpoint in its own run directory, or the data with `--data`, which may be any."
        )
    return data


def data_settings(path: Path, *, seed: int) -> dict[str, Any]:
    """Read which data a run was trained on: ``class_path`` and ``init_args``, plain values.

    Args:
        path: of the ``config.yaml`` of the run.
        seed: of the views, in the place of the one there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    try:
        config = yaml.safe_load(path.read_text())["data"]
        return {"class_path": config["class_path"], "init_args": config.get("init_args", {}) | {"seed": seed}}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not the configuration of a run: its `data` cannot be read ({error}).") from error


def make_data(settings: Mapping[str, Any]) -> TwoViewDataModule:
    """Open the data of :func:`data_settings`.

    Raises:
        FileNotFoundError: they are not there.
        ValueError: they are not there, or there is no such class or argument.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(TwoViewDataModule, "data")
    try:
        data = parser.instantiate(parser.parse_object({"data": dict(settings)})).data
    except ArgumentError as error:
        raise ValueError(f"The data {settings['class_path']} cannot be opened: {error}") from error
    assert isinstance(data, TwoViewDataModule)
    return data


def _differing(data: TwoViewDataModule, model: Model) -> tuple[list[str], list[str]]:
    """Say what of some data is not as the model's own data were, and how it was with them.

    Numbers of classes are compared where both have labels: these may have been added or removed since, and no feature
    depends on them. Neither does one on the data's mean and standard deviation, for the model keeps its own; yet other
    ones are those of other images.
    """
    names = ["in_channels", "image_size"]
    if None not in (data.num_classes, model.num_classes):
        names.append("num_classes")
    differing = [name for name in names if getattr(data, name) != getattr(model, name)]
    if data.in_channels == model.in_channels:
        differing += [
            name
            for name in ("mean", "std")
            if not np.allclose(getattr(data, name), getattr(model, name), rtol=_ROUNDING, atol=_ROUNDING)
        ]
    given, built = ([f"{name} {getattr(each, name)}" for name in differing] for each in (data, model))
    return given, built
