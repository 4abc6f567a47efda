"""What an accelerator runs, on the device without values: reading one, or a tensor left on the host, is an error."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module

import pytest
import torch

from rectified_lpjepa.data.augmentations import Augmentation, ViewParameters, augment, colour
from rectified_lpjepa.data.image_ops import fit_square
from rectified_lpjepa.functional import sliced_wasserstein


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast does not know this device."""
    for module in ("functional.sliced_statistic", "functional.precision", "data.augmentations", "data.image_ops"):
        path = import_module(f"rectified_lpjepa.{module}")
        monkeypatch.setattr(path, "full_precision", lambda device: nullcontext())


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def test_reading_a_value_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        meta(1).item()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("blur", [0.0, 0.5])
def test_views(channels: int, blur: float) -> None:
    parameters = Augmentation(blur=blur).draw(2, 6, generator=torch.Generator().manual_seed(0))
    moved = ViewParameters(*(None if table is None else table.to("meta") for table in parameters))
    images, crops = (meta(*shape, channels, 40, 40, dtype=torch.uint8) for shape in ((6,), (2, 6)))
    assert augment(images, moved, 32).shape == (2, 6, channels, 32, 32)
    assert colour(crops, moved).shape == (2, 6, channels, 40, 40)
    assert fit_square(images, 24).shape == (6, channels, 24, 24)


@pytest.mark.parametrize("directions", [(1100, 8), (2, 30, 8)])
def test_loss_and_gradient(directions: tuple[int, ...]) -> None:
    z = meta(2, 16, 8).requires_grad_()
    sliced_wasserstein(z, [lambda: meta(8, 8)] * 2, meta(*directions)).backward()
    assert z.grad is not None
    assert z.grad.shape == z.shape
