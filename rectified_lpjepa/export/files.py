"""Write a trained encoder so that timm can load it, its projector beside it, and a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from rectified_lpjepa.evaluation.models import load_jepa, sha256_of_file
from rectified_lpjepa.evaluation.subject import run_directory
from rectified_lpjepa.export.card import card
from rectified_lpjepa.export.onnx_model import onnx_bytes, require_onnx
from rectified_lpjepa.files import atomic_write, read_json, write_text
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone

WEIGHTS, PROJECTOR, CONFIG, CARD, ONNX = (
    "model.safetensors",
    "projector.safetensors",
    "config.json",
    "README.md",
    "model.onnx",
)


def export(checkpoint: Path, out: Path, onnx: bool = False) -> None:
    """Write the encoder of a checkpoint as a timm model, with its projector and a card.

    The folder then holds ``model.safetensors``, the encoder under timm's keys; ``config.json``, how timm builds it and
    what its images must be; ``projector.safetensors``, under the keys of the sequence of layers that the card shows;
    ``README.md``, a card with data, recipe, metrics, and the lines that load both; and, if asked for, ``model.onnx``,
    which takes images in [0, 1] in batches of any size and gives encoder and projector features.

    The metrics in the card are those of ``result.json`` and ``evaluation/*.json`` in the run's directory, or beside a
    checkpoint that lies in none, that belong to this checkpoint.

    Args:
        checkpoint: a checkpoint of ``fit``.
        out: folder to write to, made if absent; files of an earlier export are replaced.
        onnx: write an ONNX model, too; needs the extra ``onnx``.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the file is damaged, or no checkpoint of such a model; or a package for ONNX is not installed.
    """
    if onnx:
        require_onnx()
    model, step = load_jepa(checkpoint)
    model.eval()
    sha256, run = sha256_of_file(checkpoint), run_directory(checkpoint.resolve())
    encoder = model.backbone.model
    assert isinstance(encoder, nn.Module)
    _write_weights(out / WEIGHTS, encoder)
    _write_weights(out / PROJECTOR, model.projector)
    write_text(out / CONFIG, json.dumps(_timm_config(model), indent=2) + "\n")
    if onnx:
        with atomic_write(out / ONNX) as file:
            file.write(onnx_bytes(model))
    else:
        (out / ONNX).unlink(missing_ok=True)  # that of an earlier export
    origin = f"a checkpoint after {step} steps (SHA-256 `{sha256}`)"
    write_text(out / CARD, card(model, origin, _recipe(run, model), _metrics(run, step, sha256), onnx=onnx))


def _write_weights(path: Path, module: nn.Module) -> None:
    weights = {name: value.contiguous() for name, value in module.state_dict().items()}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(weights, metadata={"format": "pt"}))


def _timm_config(model: RectifiedLpJEPA) -> dict[str, Any]:
    """Describe the encoder as timm describes the models of its hub; the last part is ours."""
    settings = model.hparams
    backbone, size, channels = Backbone(**settings["backbone"]), settings["image_size"], settings["in_channels"]
    arguments = backbone.timm_arguments(size, channels)
    classes = arguments.pop("num_classes")
    return {
        "architecture": backbone.name,
        "num_classes": classes,
        "num_features": model.backbone.num_features,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [channels, size, size],
            "fixed_input_size": "img_size" in arguments,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": settings["mean"],
            "std": settings["std"],
            "num_classes": classes,
        },
        "rectified_lpjepa": {
            "small_stem_stride": backbone.small_stem_stride,
            "projector": settings["projector"],
            "rectifier": settings["rectifier"],
        },
    }


def _recipe(run: Path, model: RectifiedLpJEPA) -> dict[str, Any]:
    """Return what decides the numbers of the run: its identity, or without a run's directory the model alone."""
    described = {key: value for key, value in model.hparams.items() if key != "_instantiator"}
    return read_json(run / "identity.json") or {"model": described}


def _metrics(run: Path, step: int, sha256: str) -> dict[str, dict[str, float | None]]:
    """Return what was measured of these very weights, by the name of what measured it."""
    measured: dict[str, dict[str, float | None]] = {}
    result = read_json(run / "result.json")
    if result is not None and result["steps"] == step:
        measured["fit"] = result["metrics"]
    for file in sorted((run / "evaluation").glob("*.json")):
        evaluation = read_json(file)
        if evaluation is not None and evaluation["checkpoint"]["sha256"] == sha256:
            measured[evaluation["name"]] = evaluation["metrics"]
    return measured
