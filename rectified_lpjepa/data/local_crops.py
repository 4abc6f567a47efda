"""Local crops: small views of small parts of an image, besides its global views (multi-crop, as in SwAV and DINO)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rectified_lpjepa.data.augmentations import Augmentation


@dataclass(frozen=True)
class LocalCrops:
    """How many local crops each image has, and how they differ from its global views.

    All else of their recipe is that of the global views. The defaults are ranges as they are usual since DINO, where
    the global views take shares from 0.3 to 1; they are no published setting of LeJEPA or of Rectified LpJEPA.

    Args:
        num: number of local crops of each image; 0 for none.
        size: side of a local crop in pixels. The default goes with global views of 224 pixels.
        crop_scale: smallest and largest share of the image's area in a local crop.

    Raises:
        ValueError: a value is out of its range.
    """

    num: int = 0
    size: int = 96
    crop_scale: tuple[float, float] = (0.05, 0.3)

    def __post_init__(self) -> None:
        for name, lowest in (("num", 0), ("size", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"local_crops.{name} is {getattr(self, name)}. It must be at least {lowest}.")
        self.recipe(Augmentation())  # checks the range of the areas

    def recipe(self, augmentation: Augmentation) -> Augmentation:
        """Return the recipe of the local crops beside global views of a recipe."""
        return replace(augmentation, crop_scale=self.crop_scale)
