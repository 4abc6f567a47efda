"""The models that are evaluated: a checkpoint of a run, or any model of timm.

Shape suffixes: B samples, C channels, S side of an image, F encoder features, D projector features.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from typing_extensions import override

from rectified_lpjepa.callbacks import AtomicCheckpointIO
from rectified_lpjepa.distributions import Law
from rectified_lpjepa.jepa import RectifiedLpJEPA


@dataclass(frozen=True)
class Model:
    """A network that gives features, and what an evaluation must know of it.

    Attributes:
        network: from images (B, C, S, S), float32 in [0, 1], to ``encoder`` (B, F), and, where there is a projector,
            ``preactivations`` and ``projector`` (B, D).
        image_size: side S in pixels.
        in_channels: number C.
        num_classes: labels of the data that it was trained on; None where they had none, or it is not known.
        mean: of each channel, for images in [0, 1], as the network takes it off.
        std: standard deviation of each channel, as the network divides by it.
        law: the distribution that each projector feature was asked to follow; None for a model without a target.
        rectified: whether the projector features pass a rectifier.
        seed: of the run.
        path: where the weights come from.
        sha256: of the checkpoint's file, or of a timm model's weights, name, image size, mean and standard deviation.
        step: optimiser steps behind the checkpoint; None where that is not known.
    """

    network: nn.Module
    image_size: int
    in_channels: int
    num_classes: int | None
    mean: list[float]
    std: list[float]
    law: Law | None
    rectified: bool
    seed: int
    path: str
    sha256: str
    step: int | None


class _JEPANetwork(nn.Module):
    def __init__(self, model: RectifiedLpJEPA) -> None:
        super().__init__()
        self.model = model

    @override
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = self.model(images)._asdict()
        return features


class _TimmNetwork(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    @override
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"encoder": self.model((images - self.mean) / self.std)}


def load_jepa(path: Path) -> tuple[RectifiedLpJEPA, int]:
    """Build the model of a checkpoint and fill in its weights; nothing in the file is ever run.

    Args:
        path: a checkpoint that ``fit`` wrote.

    Returns:
        The model, on the CPU, and the number of optimiser steps behind it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or not a checkpoint of such a model.
    """
    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    hyperparameters = checkpoint.get("hyper_parameters")
    if not isinstance(hyperparameters, Mapping) or not {"objective", "backbone", "projector"} <= hyperparameters.keys():
        raise ValueError(
            f"{path} is not a checkpoint of `rectified-lpjepa fit`: it does not say of which objective, backbone and "
            "projector it is. HINT: for the weights of another program, build the model there and write its features."
        )
    try:
        model = RectifiedLpJEPA.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (RuntimeError, TypeError, KeyError, ValueError, ImportError, AttributeError) as error:
        raise ValueError(
            f"The weights in {path} do not fit the model that the same file describes, or this version cannot build "
            f"it: {error}. HINT: use the version of the package that wrote it, or another checkpoint."
        ) from error
    return model, checkpoint["global_step"]


def load_checkpoint(path: Path) -> Model:
    """Load the model of a checkpoint to be evaluated, see :func:`load_jepa`."""
    model, step = load_jepa(path)
    return Model(
        _JEPANetwork(model),
        model.hparams["image_size"],
        model.hparams["in_channels"],
        model.hparams["num_classes"],
        model.hparams["mean"],
        model.hparams["std"],
        model.law,
        model.rectifier != "none",
        model.seed,
        str(path),
        sha256_of_file(path),
        step,
    )


def load_timm(name: str, *, pretrained: bool = False, seed: int = 0) -> Model:
    """Build a model of timm without its classifier, at the image size and normalisation of its pretraining.

    Args:
        name: of the model, such as ``resnet50.a1_in1k``.
        pretrained: download the weights, or take them from timm's cache; otherwise they are drawn at random.
        seed: of the random weights.

    Raises:
        ValueError: timm has no model of this name.
    """
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"Near names: {', '.join(near)}." if near else "timm.list_models() lists all."
        raise ValueError(f"timm has no model {name!r}. HINT: {hint}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    config = resolve_model_data_config(model)
    channels, height, width = config["input_size"]
    if height != width:
        raise ValueError(f"{name!r} takes images of {height} × {width} pixels, and only square ones can be given.")
    return Model(
        _TimmNetwork(model, config["mean"], config["std"]),
        height,
        channels,
        num_classes=None,
        mean=list(config["mean"]),
        std=list(config["std"]),
        law=None,
        rectified=False,
        seed=seed,
        path=f"timm/{name}",
        sha256=_sha256_of_timm(model, [name, height, list(config["mean"]), list(config["std"])]),
        step=None,
    )


def sha256_of_file(path: Path) -> str:
    """Hash a file: SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_timm(model: nn.Module, settings: list[Any]) -> str:
    """Hash all that the features of an image depend on: the settings of the model, as plain values, and its weights."""
    sha256 = hashlib.sha256(json.dumps(settings).encode())
    for name, value in sorted(model.state_dict().items()):
        sha256.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        sha256.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()
