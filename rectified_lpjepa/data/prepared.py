"""The record in a folder of images that ``rectified-lpjepa prepare`` made: from what, how, and what came out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rectified_lpjepa.data.module import FINGERPRINT_LENGTH
from rectified_lpjepa.files import read_json, write_text

_FILE = "prepared.json"


@dataclass(frozen=True)
class Settings:
    """What decides the content of a prepared folder.

    Args:
        source: absolute path of the folder with the originals.
        longest: largest length of the longer side in pixels; None where the shorter side is limited.
        shortest: largest length of the shorter side in pixels; None where the longer side is limited.
        quality: JPEG quality.
        classes: name of the list of classes that were taken; None for all.
    """

    source: str
    longest: int | None
    shortest: int | None
    quality: int
    classes: Literal["imagenet100"] | None


@dataclass(frozen=True)
class PreparedFolder:
    """The record, ``prepared.json``.

    Args:
        settings: how the folder is made.
        counts: number of images by folder, ``train`` and ``val``; None while it is not complete.
        sha256: of the lines ``<SHA-256 of the file>  <path>``, sorted by path; None while it is not complete.
    """

    settings: Settings
    counts: dict[str, int] | None = None
    sha256: str | None = None

    @classmethod
    def read(cls, root: Path) -> PreparedFolder | None:
        """Read the record of a folder; None where there is none."""
        content = read_json(root / _FILE)
        if content is None:
            return None
        return cls(**content | {"settings": Settings(**content["settings"])})

    def write(self, root: Path) -> None:
        """Write the record into its folder, in place of a former one."""
        write_text(root / _FILE, json.dumps(asdict(self), indent=2) + "\n")

    @property
    def fingerprint(self) -> str:
        """Beginning of the content's SHA-256; empty while the folder is not complete."""
        return (self.sha256 or "")[:FINGERPRINT_LENGTH]

    def summary(self) -> str:
        """Say how the images were made, in a line: ``longest side 320, quality 95, 0123456789abcdef``."""
        settings = self.settings
        side = f"shortest side {settings.shortest}" if settings.longest is None else f"longest side {settings.longest}"
        return f"{side}, quality {settings.quality}, {self.fingerprint}"
