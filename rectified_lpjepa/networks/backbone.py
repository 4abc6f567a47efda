"""The backbone: any timm model, from scratch, built for the images it will see."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import timm
import torch
from timm.models import get_pretrained_cfg_value, is_model_in_modules
from torch import Tensor, nn
from typing_extensions import override

from rectified_lpjepa.networks.small_maps import spread_small_maps

_SET_HERE = {
    "img_size": "the image size is the data's",
    "in_chans": "the number of channels is the data's",
    "num_classes": "the encoder has no classifier",
    "pretrained": "training starts from scratch",
}


class Encoder(nn.Module):
    """A timm model without classifier, which takes images of one size only, and local crops of another one.

    Args:
        model: the timm model; its keys in a state dict are timm's, below ``model.``.
        image_size: side S of the square images in pixels.
        in_channels: number C of image channels.
        local_size: side of local crops in pixels; None for none.
    """

    def __init__(self, model: nn.Module, image_size: int, in_channels: int, local_size: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.image_size = image_size
        self.in_channels = in_channels
        self.local_size = local_size

    @property
    def num_features(self) -> int:
        """Width F of the encoder features."""
        # For most models this is timm's `num_features`, too, but some widen the pooled features afterwards.
        return int(getattr(self.model, "head_hidden_size"))  # noqa: B009 - an attribute that nn.Module does not declare

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Compute the pooled features of a batch of images.

        Args:
            images: (B, C, S, S), floating point, normalised; local crops have their own side.

        Returns:
            Encoder features (B, F).

        Raises:
            ValueError: the images are of another shape than the backbone was built for.
        """
        expected = (self.in_channels, self.image_size, self.image_size)
        local = (self.in_channels, self.local_size, self.local_size)
        if images.ndim != 4 or tuple(images.shape[1:]) not in (expected, local):
            crops = "" if self.local_size is None else f" and local crops of {self.local_size}×{self.local_size} pixels"
            raise ValueError(
                f"The backbone was built for images of shape (B, {', '.join(map(str, expected))}){crops} and got "
                f"{tuple(images.shape)}. Build it with the image size, the channels and the local crops of the data."
            )
        features: Tensor = self.model(images)
        return features


@dataclass(frozen=True)
class Backbone:
    """Which timm model is the encoder, and how it is built. Weights are always initialised at random.

    ResNets start with the last batch norm of each block at one, as torchvision's do (timm's own default is zero).

    Args:
        name: architecture by timm's name, such as ``resnet18``, ``vit_small_patch16_224`` or ``convnext_small``.
        small_stem_stride: for ResNets on small images: a 3×3 first convolution of this stride and padding 1 in place of
            the 7×7 one of stride 2, and no max-pooling. 1 is the usual stem for CIFAR; 2 is four times as fast.
        kwargs: further arguments of the timm model, such as ``{patch_size: 4}`` or ``{layers: [1, 1, 1, 1]}``.

    Raises:
        ValueError: no such architecture; an argument that is set here; a small-image stem for another than a ResNet.
    """

    name: str = "resnet18"
    small_stem_stride: Literal[1, 2] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = timm.list_models()
        if self.name not in known:
            near = get_close_matches(self.name, known, n=5, cutoff=0.5)
            hint = f"Near names: {', '.join(near)}." if near else "timm.list_models() lists all."
            raise ValueError(f"timm has no architecture {self.name!r}. {hint}")
        for key in self.kwargs.keys() & _SET_HERE.keys():
            raise ValueError(f"Backbone(kwargs={{{key!r}: …}}) cannot be set: {_SET_HERE[key]}. Remove it.")
        if self.small_stem_stride is not None and not self._is_resnet:
            raise ValueError(
                f"Backbone(small_stem_stride={self.small_stem_stride}) is for ResNets, and {self.name!r} is none. "
                "Leave it out; for a ViT on small images set a smaller patch, such as kwargs={'patch_size': 4}."
            )

    @property
    def _is_resnet(self) -> bool:
        return bool(is_model_in_modules(self.name, {"resnet"}))

    def timm_arguments(self, image_size: int, in_channels: int = 3) -> dict[str, Any]:
        """Return the arguments of ``timm.create_model`` behind the name; the small-image stem is not among them."""
        arguments: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels}
        if self._is_resnet:
            arguments["zero_init_last"] = False
        if get_pretrained_cfg_value(self.name, "fixed_input_size"):
            arguments["img_size"] = image_size
        return arguments | self.kwargs

    def build(self, image_size: int, in_channels: int = 3, local_size: int | None = None) -> Encoder:
        """Build the encoder from scratch; its weights come from torch's global generator.

        Args:
            image_size: side of the square images in pixels.
            in_channels: number of image channels.
            local_size: side of local crops in pixels, which it takes as well; None for none.

        Returns:
            A module from (B, in_channels, image_size, image_size) to (B, num_features), all of whose parameters
            receive gradients.

        Raises:
            ValueError: the model's patches do not tile the image or the local crops, it takes no images of their size,
                or its stem is not a single convolution to replace.
            TypeError: the model does not take one of ``kwargs``.
        """
        try:
            model = timm.create_model(self.name, pretrained=False, **self.timm_arguments(image_size, in_channels))
        except TypeError as error:
            raise TypeError(f"timm cannot build {self.name!r} with kwargs={self.kwargs}: {error}") from error
        self._check_patches(model, image_size)
        if self.small_stem_stride is not None:
            self._replace_stem(model, in_channels)
        if local_size is not None:
            self._check_patches(model, local_size)
            self._check_local_size(model, image_size, in_channels, local_size)
        spread_small_maps(model)
        return Encoder(model, image_size, in_channels, local_size)

    def _check_patches(self, model: nn.Module, image_size: int) -> None:
        patch_size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
        # timm cuts off what its patches do not cover, silently.
        if patch_size is not None and any(image_size % side for side in patch_size):
            raise ValueError(
                f"{self.name!r} cuts images into patches of {patch_size[0]}×{patch_size[1]} pixels, which do not tile "
                f"images of {image_size}×{image_size}. Set kwargs={{'patch_size': …}} to a divisor of {image_size}, or "
                "another image size."
            )

    def _check_local_size(self, model: nn.Module, image_size: int, in_channels: int, local_size: int) -> None:
        # What a model takes is known to the model alone: it is given one black crop, without a trace in its statistics.
        model.eval()
        try:
            with torch.no_grad():
                model(torch.zeros(1, in_channels, local_size, local_size))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.name!r}, built for images of {image_size}×{image_size}, takes no local crops of "
                f"{local_size}×{local_size} pixels ({error}). HINT: a ViT takes them with "
                "`--model.backbone.kwargs.dynamic_img_size true`; for others set another "
                "`--data.local_crops.size`, or take a backbone for images of any size, such as a ResNet."
            ) from error
        model.train()

    def _replace_stem(self, model: Any, in_channels: int) -> None:
        if not isinstance(model.conv1, nn.Conv2d):
            raise ValueError(
                f"Backbone(small_stem_stride={self.small_stem_stride}) replaces a single first convolution, and "
                f"{self.name!r} starts with several. Choose a ResNet with a plain stem, such as resnet18 or resnet50."
            )
        conv = nn.Conv2d(
            in_channels,
            model.conv1.out_channels,
            kernel_size=3,
            stride=self.small_stem_stride or 1,
            padding=1,
            bias=False,
        )
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as timm starts the others
        model.conv1 = conv
        model.maxpool = nn.Identity()
