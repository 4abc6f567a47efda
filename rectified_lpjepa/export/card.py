"""The card of an exported model: what it is, how it is loaded, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from torch import nn

from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone, Rectifier

_PROGRAM = "rectified-lpjepa, which is built for [Rectified LpJEPA](https://arxiv.org/abs/2602.01456)"
_RECTIFIED: dict[Rectifier, list[str]] = {  # what follows `z = projector(features)`
    "relu": ["z = z.relu()"],
    "rep_relu": ["z = z.relu()"],
    "softplus_threshold": ["z = z.relu()", "z = z + torch.log1p(torch.expm1(-z) / 2)"],
    "gelu_relu": ["z = torch.nn.functional.gelu(z).relu()"],
    "none": [],
}


def card(
    model: RectifiedLpJEPA,
    origin: str,
    recipe: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, float | None]],
    *,
    onnx: bool,
) -> str:
    """Write the card, in Markdown.

    Args:
        model: the exported model.
        origin: the checkpoint that it comes from.
        recipe: nested plain values.
        metrics: numbers by name, by the name of what measured them.
        onnx: whether there is an ONNX model, too.
    """
    settings = model.hparams
    size, channels = settings["image_size"], settings["in_channels"]
    encoder, projector = model.backbone.num_features, settings["projector"]["out_dim"]
    files = [
        f"* `model.safetensors`: the encoder, {encoder} features, under timm's keys",
        f"* `projector.safetensors`: the projector, {projector} features",
        "* `config.json`: architecture, arguments and normalisation, in timm's form",
    ]
    if onnx:
        files.append(
            "* `model.onnx`: both with the normalisation; from `images` in [0, 1] to `encoder` and `projector` features"
        )
    sections = [
        "---\nlibrary_name: timm\ntags: [image-feature-extraction, timm]\n---",
        f"# {settings['backbone']['name']}, trained with {type(model.objective).__name__}",
        f"An image encoder, learned from {size}×{size} images ({channels} channels), and the projector on whose "
        f"features the training objective acts. From {origin}, by the program {_PROGRAM}.",
        "## Load",
        f"In the folder of this file:\n\n```python\n{_loading_lines(model)}\n```",
        "Encoder features of images in [0, 1]. In this memory format they are those of the training program bit for "
        f"bit, on the same machine:\n\n```python\n{_feature_lines(model)}\n```",
        f"Projector features:\n\n```python\n{_projector_lines(model)}\n```",
        "## Files",
        "\n".join(files),
        "## Metrics",
        _metric_tables(metrics),
        "## Data and recipe",
        f"```yaml\n{yaml.safe_dump(_plain(recipe), sort_keys=False).strip()}\n```",
        "## Licence",
        "None is stated here: whoever publishes these weights chooses it. The terms of the data count, too.",
    ]
    return "\n\n".join(sections) + "\n"


def _loading_lines(model: RectifiedLpJEPA) -> str:
    settings = model.hparams
    backbone = Backbone(**settings["backbone"])
    arguments = backbone.timm_arguments(settings["image_size"], settings["in_channels"])
    named = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    lines = [
        "import timm",
        "import torch",
        "from safetensors.torch import load_file",
        "",
        f"model = timm.create_model({backbone.name!r}, {named})",
    ]
    if backbone.small_stem_stride is not None:
        # timm has no argument for this stem.
        lines += [
            f"model.conv1 = torch.nn.Conv2d({settings['in_channels']}, model.conv1.out_channels, 3, "
            f"stride={backbone.small_stem_stride}, padding=1, bias=False)",
            "model.maxpool = torch.nn.Identity()",
        ]
    return "\n".join([*lines, "model.load_state_dict(load_file('model.safetensors'))"])


def _feature_lines(model: RectifiedLpJEPA) -> str:
    settings = model.hparams
    shape = (8, settings["in_channels"], settings["image_size"], settings["image_size"])
    return "\n".join(
        [
            "model = model.eval().to(memory_format=torch.channels_last)",
            f"mean = torch.tensor({settings['mean']}).view(-1, 1, 1)",
            f"std = torch.tensor({settings['std']}).view(-1, 1, 1)",
            f"images = torch.rand{shape}",
            "with torch.inference_mode():",
            "    features = model(((images - mean) / std).contiguous(memory_format=torch.channels_last))",
        ]
    )


def _projector_lines(model: RectifiedLpJEPA) -> str:
    return "\n".join(
        [
            "from torch.nn import BatchNorm1d, Linear, ReLU",
            "",
            "projector = torch.nn.Sequential(",
            *(f"    {_layer(layer)}," for layer in model.projector),
            ")",
            "projector.load_state_dict(load_file('projector.safetensors'))",
            "with torch.inference_mode():",
            "    z = projector.eval()(features)",
            *(f"    {line}" for line in _RECTIFIED[model.rectifier]),
        ]
    )


def _layer(layer: nn.Module) -> str:
    """Write a layer of the projector as its constructor is called."""
    match layer:
        case nn.Linear():
            return f"Linear({layer.in_features}, {layer.out_features})"
        case nn.BatchNorm1d():
            return f"BatchNorm1d({layer.num_features})"
        case _:
            return f"{type(layer).__name__}()"


def _metric_tables(metrics: Mapping[str, Mapping[str, float | None]]) -> str:
    if not metrics:
        return "None of this checkpoint are at hand."
    tables = []
    for name, values in metrics.items():
        shown = {key: "undefined" if value is None else f"{value:.5g}" for key, value in values.items()}
        rows = "\n".join(f"| {key} | {value} |" for key, value in shown.items())
        table = f"| metric | value |\n|---|---|\n{rows}"
        tables.append(f"<details><summary>{name}</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(tables)


def _plain(value: Any) -> Any:
    """Make plain dicts of mappings at any depth."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value
