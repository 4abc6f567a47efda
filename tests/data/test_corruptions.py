"""Corruptions agree with plain references, one image at a time, and their noise with the laws it is drawn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from numpy.typing import NDArray
from PIL import Image

from rectified_lpjepa.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt

Floats = NDArray[np.float64]
NOISES = ("gaussian_noise", "shot_noise")


def images(number: int = 3, channels: int = 3, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    """Random images in which a pixel is black and another one white."""
    values = torch.rand(number, channels, height, width, generator=torch.Generator().manual_seed(seed))
    values[:, :, 1, 2], values[:, :, 3, 4] = 0.0, 1.0
    return values


def plain_blur(plane: Floats, sigma: float) -> Floats:
    return np.asarray(scipy.ndimage.gaussian_filter(plane, sigma, mode="nearest", truncate=4.0))


def plain_pixelate(plane: Floats, share: float) -> Floats:
    height, width = plane.shape
    small = Image.fromarray(plane.astype(np.float32)).resize((int(width * share), int(height * share)), Image.BOX)
    return np.asarray(small.resize((width, height), Image.BOX), dtype=np.float64)


def plain_contrast(plane: Floats, factor: float) -> Floats:
    return np.clip((plane - plane.mean()) * factor + plane.mean(), 0, 1)


def test_the_amounts_are_those_of_cifar_10_c() -> None:
    assert CORRUPTIONS == {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    }


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 16), (3, 21, 30)])
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    ("name", "plain"), [("gaussian_blur", plain_blur), ("pixelate", plain_pixelate), ("contrast", plain_contrast)]
)
def test_operations_on_planes(
    name: str, plain: Callable[[Floats, float], Floats], severity: int, shape: tuple[int, int, int]
) -> None:
    clean = images(2, *shape)
    corrupted = corrupt(clean, range(2), name, severity)
    amount = CORRUPTIONS[name][severity - 1]
    expected = [[plain(plane, amount) for plane in image] for image in clean.double().numpy()]
    np.testing.assert_allclose(corrupted, np.array(expected), atol=2e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_is_added_to_the_value(severity: int) -> None:
    clean = images()
    hsv = rgb_to_hsv(clean.permute(0, 2, 3, 1).double().numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + CORRUPTIONS["brightness"][severity - 1], 0, 1)
    corrupted = corrupt(clean, range(3), "brightness", severity).permute(0, 2, 3, 1)
    np.testing.assert_allclose(corrupted, hsv_to_rgb(hsv), atol=1e-6)


def test_brightness_of_grey_images_is_added_to_each_pixel() -> None:
    clean = images(channels=1)
    torch.testing.assert_close(corrupt(clean, range(3), "brightness", 5), (clean + 0.3).clamp_max(1.0))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_is_normal(severity: int) -> None:
    clean = torch.full((8, 3, 32, 32), 0.5)
    noise = (corrupt(clean, range(8), "gaussian_noise", severity) - clean).flatten().double().numpy()
    std = CORRUPTIONS["gaussian_noise"][severity - 1]
    assert scipy.stats.kstest(noise, scipy.stats.norm(scale=std).cdf).pvalue > 1e-3


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_counts_photons(severity: int) -> None:
    photons = CORRUPTIONS["shot_noise"][severity - 1]
    clean = torch.full((8, 3, 32, 32), 0.3)
    counts = (corrupt(clean, range(8), "shot_noise", severity) * photons).double().flatten()
    torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0)
    law, number = scipy.stats.poisson(0.3 * photons), len(counts)
    edges = law.ppf(np.linspace(0.1, 0.9, 9))
    observed = np.bincount(np.searchsorted(edges, counts.round().numpy()), minlength=10)
    expected = number * np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]]))
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    clean = images(7)
    whole = corrupt(clean, range(7), name, 3, seed=5)
    parts = [corrupt(clean[rows], list(rows), name, 3, seed=5) for rows in (range(1), range(1, 5), range(5, 7))]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6 * (name not in NOISES), rtol=0)


@pytest.mark.parametrize("name", NOISES)
def test_noise_differs_between_images_severities_and_seeds(name: str) -> None:
    clean = images(1).expand(2, -1, -1, -1)
    first = corrupt(clean, range(2), name, 3)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, corrupt(clean, range(2), name, 3, seed=1))
    assert torch.equal(first, corrupt(clean, range(2), name, 3))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_values_stay_in_range_and_move_further_with_severity(name: str, channels: int) -> None:
    clean = images(4, channels)
    before = clean.clone()
    distances = []
    for severity in SEVERITIES:
        corrupted = corrupt(clean, range(4), name, severity)
        assert corrupted.shape == clean.shape
        assert corrupted.dtype == torch.float32
        assert corrupted.min() >= 0
        assert corrupted.max() <= 1
        distances.append(float((corrupted - clean).square().mean()))
    assert distances == sorted(distances)
    assert torch.equal(clean, before)


def test_unknown_names_and_severities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no corruption 'fog'. Choose of gaussian_noise, "):
        corrupt(images(), range(3), "fog", 1)
    for severity in (0, 6):
        with pytest.raises(ValueError, match=f"severity of a corruption is {severity}"):
            corrupt(images(), range(3), "contrast", severity)
