"""Augmented views against torchvision's operations, and their parameters against the laws they are drawn from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from rectified_lpjepa.data.augmentations import Augmentation, ViewParameters, augment, colour, crop_boxes
from rectified_lpjepa.data.colour import HUE, Colours
from rectified_lpjepa.data.image_ops import crop_resize

EVERYTHING = Augmentation(grayscale=0.3, blur=0.5, solarize=0.4, hue=0.3)
BLUR_TAPS = {24: 3, 50: 5, 224: 23}
JITTER = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(batch: int, channels: int = 3, height: int = 30, width: int = 36) -> Tensor:
    """Bytes in the middle of the range, where the bicubic kernel cannot overshoot."""
    return torch.randint(64, 192, (batch, channels, height, width), dtype=torch.uint8, generator=generator())


def chain(image: Tensor, box: list[int], parameters: ViewParameters, place: tuple[int, int], size: int) -> Tensor:
    """One view of one image, operation by operation with torchvision."""
    view = reference.resized_crop(
        image / 255, *box, size=[size, size], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    for operation in parameters.jitter_order[place].tolist():
        view = JITTER[operation](view, parameters.jitter_factors[place][operation].item())
    if parameters.grayscale[place]:
        view = reference.rgb_to_grayscale(view, num_output_channels=len(view))
    if parameters.blur_sigma is not None and (sigma := parameters.blur_sigma[place].item()) > 0:
        view = reference.gaussian_blur(view, kernel_size=[BLUR_TAPS[size]] * 2, sigma=[sigma, sigma])
    if parameters.solarize[place]:
        view = reference.solarize(view, threshold=0.5)
    return reference.horizontal_flip(view) if parameters.flip[place] else view


@pytest.mark.parametrize(("channels", "size", "batch"), [(3, 24, 120), (1, 24, 40), (3, 50, 24), (3, 224, 4)])
def test_augment_is_a_chain_of_torchvisions_operations(channels: int, size: int, batch: int) -> None:
    images = photos(batch, channels)
    parameters = EVERYTHING.draw(2, batch, generator=generator())
    views = augment(images, parameters, size)
    assert views.shape == (2, batch, channels, size, size)
    assert views.dtype == torch.float32
    boxes = crop_boxes(parameters, *images.shape[-2:]).tolist()
    for v in range(2):
        expected = [chain(images[b], boxes[v][b], parameters, (v, b), size) for b in range(batch)]
        torch.testing.assert_close(views[v], torch.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_two_arrangements_of_the_colours_agree(channels: int) -> None:
    """What runs on accelerators gives what runs on a CPU, for all orders of the jitter."""
    images, parameters = photos(300, channels, 24, 24) / 255, EVERYTHING.draw(1, 300, generator=generator())
    assert parameters.blur_sigma is not None
    colours = Colours(
        parameters.jitter_factors[0],
        parameters.jitter_order[0],
        parameters.grayscale[0],
        parameters.blur_sigma[0],
        parameters.solarize[0],
    )
    order = colours.hue_position().argsort()
    assert colours.hue_position().unique().tolist() == [-1, 0, 1, 2, 3]
    selectively, colours = images[order], colours.take(order)
    colours.apply_selectively(selectively, step=7)
    torch.testing.assert_close(selectively, colours.apply_as_sequence(images[order]), rtol=0, atol=1e-5)
    idle = (colours.hue_position() == -1) & ~colours.grayscale & (colours.blur_sigma == 0) & ~colours.solarize
    assert torch.equal(selectively[idle], images[order][idle])


def test_colour_finishes_crops_made_elsewhere() -> None:
    images, parameters = photos(8), EVERYTHING.draw(2, 8, generator=generator())
    crops = torch.stack([crop_resize(images, boxes, 24) for boxes in crop_boxes(parameters, 30, 36)])
    torch.testing.assert_close(colour(crops, parameters), augment(images, parameters, 24), rtol=0, atol=1e-5)
    as_bytes = (crops * 255).round().byte()
    assert torch.equal(colour(as_bytes, parameters), colour(as_bytes / 255, parameters))


def test_values_stay_in_range_on_extreme_images() -> None:
    images = 255 * torch.randint(0, 2, (64, 3, 16, 16), dtype=torch.uint8, generator=generator())
    views = augment(images, replace(EVERYTHING, brightness=2.0).draw(2, 64, generator=generator()), 32)
    assert views.min() == 0
    assert views.max() == 1


def test_autocast_does_not_lower_the_precision() -> None:
    images, parameters = photos(8), EVERYTHING.draw(2, 8, generator=generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = augment(images, parameters, 24)
    assert torch.equal(views, augment(images, parameters, 24))


def test_a_process_gets_its_rows_of_the_global_batch() -> None:
    images, parameters = photos(120), EVERYTHING.draw(2, 120, generator=generator())
    views = augment(images, parameters, 32)
    for processes in (2, 3):
        share = 120 // processes
        for rank in range(processes):
            # Each process draws the whole table from the same key, then takes its rows.
            own = EVERYTHING.draw(2, 120, generator=generator()).rows(rank * share, (rank + 1) * share)
            rows = slice(rank * share, (rank + 1) * share)
            assert all(torch.equal(a, b[:, rows]) for a, b in zip(own, parameters, strict=True))
            torch.testing.assert_close(augment(images[rows], own, 32), views[:, rows], rtol=0, atol=1e-6)


def test_rows_keep_a_missing_blur_missing() -> None:
    parameters = Augmentation().draw(2, 4, generator=generator()).rows(1, 3)
    assert parameters.blur_sigma is None
    assert parameters.flip.shape == (2, 2)


def test_flags_and_factors_follow_their_laws() -> None:
    recipe = EVERYTHING
    parameters = recipe.draw(2, 5000, generator=generator(1))
    assert parameters.blur_sigma is not None
    factors = parameters.jitter_factors
    unchanged = torch.tensor([1.0, 1.0, 1.0, 0.0])
    jittered = (factors != unchanged).any(-1)
    blurred = parameters.blur_sigma > 0
    flags = (
        (parameters.flip, recipe.flip),
        (jittered, recipe.jitter),
        (parameters.grayscale, recipe.grayscale),
        (blurred, recipe.blur),
        (parameters.solarize, recipe.solarize),
    )
    for flag, probability in flags:
        assert stats.binomtest(int(flag.sum()), flag.numel(), probability).pvalue > 1e-3
    laws = ((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.3, 0.3))
    for column, (low, high) in enumerate(laws):
        assert stats.kstest(factors[jittered][:, column], stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert stats.kstest(parameters.blur_sigma[blurred], stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    orders, counts = parameters.jitter_order.flatten(0, 1).unique(dim=0, return_counts=True)
    assert len(orders) == math.factorial(4)
    assert torch.equal(orders.sort(-1).values, torch.arange(4).expand(24, 4))
    assert stats.chisquare(counts).pvalue > 1e-3
    assert (parameters.jitter_order == HUE).sum() == 10_000


def test_strong_factors_do_not_go_below_zero() -> None:
    parameters = Augmentation(brightness=3.0, jitter=1.0).draw(1, 2000, generator=generator())
    brightness = parameters.jitter_factors[..., 0]
    assert brightness.min() >= 0
    assert brightness.max() > 3.9


def test_views_and_samples_have_parameters_of_their_own() -> None:
    parameters = EVERYTHING.draw(2, 50, generator=generator())
    assert parameters.crop_area.flatten().unique().numel() == 2 * 50 * 10
    assert not torch.equal(parameters.flip[0], parameters.flip[1])


def test_crops_follow_torchvisions_law() -> None:
    height, width, count = 40, 70, 3000
    parameters = Augmentation().draw(1, count, generator=generator(2))
    ours = crop_boxes(parameters, height, width)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        image = torch.empty(1, height, width)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    for boxes in (ours, theirs):
        assert (boxes[:, 2:] >= 1).all()

    def quantities(boxes: Tensor) -> dict[str, Tensor]:
        top, left, box_height, box_width = boxes.double().unbind(-1)
        return {
            "area": box_height * box_width,
            "ratio": box_width / box_height,
            "top": top,
            "left": left,
            "free rows": height - box_height - top,
            "free columns": width - box_width - left,
        }

    reference_quantities = quantities(theirs)
    for name, values in quantities(ours).items():
        assert stats.ks_2samp(values, reference_quantities[name]).pvalue > 1e-3, name


@pytest.mark.parametrize(("height", "width"), [(10, 90), (90, 10), (30, 31), (1, 7), (7, 1), (1, 1), (500, 333)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.3, 0.5), (2.0, 2.0)])
def test_centre_crop_when_no_try_fits(height: int, width: int, ratio: tuple[float, float]) -> None:
    parameters = Augmentation(crop_ratio=ratio).draw(1, 1, generator=generator())
    hopeless = parameters._replace(crop_area=torch.full_like(parameters.crop_area, 2.0))
    expected = RandomResizedCrop.get_params(torch.empty(1, height, width), [2.0, 2.0], list(ratio))
    # torchvision returns an empty box where a side rounds to 0.
    expected = expected[:2] + tuple(max(1, side) for side in expected[2:])
    top, left, box_height, box_width = crop_boxes(hopeless, height, width)[0, 0].tolist()
    assert (box_height, box_width) == expected[2:]
    assert (top, left) == ((height - box_height) // 2, (width - box_width) // 2)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=8),
    low=st.floats(1e-3, 1),
    ratio=st.tuples(st.floats(0.05, 20), st.floats(1, 5)),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=100, database=None)
def test_boxes_lie_inside_images_of_any_shape(
    sizes: list[tuple[int, int]], low: float, ratio: tuple[float, float], seed: int
) -> None:
    recipe = Augmentation(crop_scale=(low, 1.0), crop_ratio=(ratio[0], ratio[0] * ratio[1]))
    parameters = recipe.draw(2, len(sizes), generator=generator(seed))
    heights, widths = torch.tensor(sizes).unbind(-1)
    boxes = crop_boxes(parameters, heights, widths)
    top, left, height, width = boxes.unbind(-1)
    assert boxes.dtype == torch.int64
    assert (torch.stack([height, width]) >= 1).all()
    assert (torch.stack([top, left]) >= 0).all()
    assert (top + height <= heights).all()
    assert (left + width <= widths).all()
    # Each sample's box depends on its own size alone.
    for b, (own_height, own_width) in enumerate(sizes):
        assert torch.equal(crop_boxes(parameters, own_height, own_width)[:, b], boxes[:, b])


def test_position_reaches_both_ends() -> None:
    parameters = Augmentation(crop_scale=(0.25, 0.25), crop_ratio=(1.0, 1.0)).draw(1, 500, generator=generator())
    top, left, height, width = crop_boxes(parameters, 8, 8)[0].unbind(-1)
    assert set(top.tolist()) == set(left.tolist()) == {0, 1, 2, 3, 4}
    assert set(height.tolist()) == set(width.tolist()) == {4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale=\(0.0, 1.0\).*0 < low <= high and at most 1"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"crop_scale": (0.5,)}, "crop_scale.*two numbers"),
        ({"crop_ratio": (-1.0, 1.0)}, "crop_ratio"),
        ({"crop_ratio": (1.0, math.inf)}, "crop_ratio"),
        ({"crop_ratio": (math.nan, 1.0)}, "crop_ratio"),
        ({"blur_sigma": (0.0, 2.0)}, "blur_sigma"),
        ({"flip": 1.2}, "flip=1.2: expected a probability"),
        ({"jitter": -0.1}, "jitter"),
        ({"grayscale": math.nan}, "grayscale"),
        ({"blur": 2}, "blur"),
        ({"solarize": -1}, "solarize"),
        ({"brightness": -0.4}, "brightness=-0.4: expected a strength, at least 0"),
        ({"contrast": math.inf}, "contrast"),
        ({"saturation": -1}, "saturation"),
        ({"hue": 0.6}, "hue=0.6: expected a strength, from 0 to 0.5"),
    ],
)
def test_recipes_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)


def test_wrong_batches_are_refused() -> None:
    parameters = Augmentation().draw(2, 4, generator=generator())
    for views, batch in ((0, 4), (2, 0)):
        with pytest.raises(ValueError, match="both must be at least 1"):
            Augmentation().draw(views, batch, generator=generator())
    for start, stop in ((-1, 2), (2, 2), (0, 5)):
        with pytest.raises(ValueError, match="in a table of 4"):
            parameters.rows(start, stop)
    for shape in ((5, 3, 8, 8), (4, 2, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match=r"do not go with parameters of 4 samples: expected \(4, 1 or 3 channels"):
            augment(torch.zeros(shape), parameters, 8)
    with pytest.raises(ValueError, match=r"expected \(2, 4, 1 or 3 channels"):
        colour(torch.zeros(1, 4, 3, 8, 8), parameters)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_views_do_not_depend_on_the_device() -> None:
    images, parameters = photos(32), EVERYTHING.draw(2, 32, generator=generator())
    on_device = ViewParameters(*(None if table is None else table.cuda() for table in parameters))
    views = augment(images.cuda(), on_device, 24).cpu()
    torch.testing.assert_close(views, augment(images, parameters, 24), rtol=0, atol=1e-5)
