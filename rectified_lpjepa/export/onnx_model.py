"""A trained model as ONNX: images in, features out."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn
from typing_extensions import override

from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import rectify

_PACKAGES = ("onnx", "onnxscript")


class _Network(nn.Module):
    """What is exported of the model: it normalises, embeds, projects and rectifies."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: RectifiedLpJEPA) -> None:
        super().__init__()
        self.backbone, self.projector, self.rectifier = model.backbone, model.projector, model.rectifier
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        encoder = self.backbone((images - self.mean) / self.std)
        return encoder, rectify(self.projector(encoder), self.rectifier)


def require_onnx() -> None:
    """Raise a ValueError where a package that writes ONNX is not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"Writing ONNX needs {' and '.join(_PACKAGES)}, and {' and '.join(missing)} cannot be imported. HINT: "
            "`pip install 'rectified-lpjepa[onnx]'`, or leave `--onnx` out."
        )


def onnx_bytes(model: RectifiedLpJEPA) -> bytes:
    """Convert a model.

    Args:
        model: in evaluation mode, on the CPU.

    Returns:
        An ONNX file: input ``images``, float32 (B, C, S, S) in [0, 1] with any B; outputs ``encoder`` (B, F) and
        ``projector`` (B, D), the latter behind the rectifier.
    """
    size, channels = model.hparams["image_size"], model.hparams["in_channels"]
    # A size of one would be taken for a constant.
    images = torch.zeros(2, channels, size, size)
    program = torch.onnx.export(
        _Network(model).eval(),
        (images,),
        dynamo=True,
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        input_names=["images"],
        output_names=["encoder", "projector"],
        verbose=False,
    )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
