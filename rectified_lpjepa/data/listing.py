"""Which image files lie in a folder, and in which class."""

from __future__ import annotations

import os
from pathlib import Path

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def list_classes(folder: Path, names: list[str]) -> dict[str, list[str]]:
    """List the image files in subfolders, at any depth.

    Args:
        folder: the folder of a split.
        names: its subfolders.

    Returns:
        For each name the sorted paths, relative to ``folder``.

    Raises:
        ValueError: a subfolder has no images.
    """
    files = {name: list_images(folder, name) for name in names}
    if empty := [name for name in names if not files[name]]:
        raise ValueError(
            f"The folder {folder / empty[0]} has no images ({len(empty)} such folder(s) in {folder}). Expected files "
            f"with the endings {' '.join(_EXTENSIONS)}; delete the folder if the class is not meant."
        )
    return files


def class_folders(folder: Path) -> list[str]:
    """List the names of the subfolders, sorted; hidden ones are no classes."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def list_images(folder: Path, name: str = ".", *, recursive: bool = True) -> list[str]:
    """List the image files in a subfolder, without what is hidden.

    Args:
        folder: the folder of a split.
        name: its subfolder.
        recursive: whether at any depth, or those that lie directly in it alone.

    Returns:
        The sorted paths, relative to ``folder``.
    """
    found = []
    for parent, subfolders, files in os.walk(folder / name, followlinks=True):
        subfolders[:] = [subfolder for subfolder in subfolders if recursive and not subfolder.startswith(".")]
        found += [os.path.relpath(os.path.join(parent, file), folder) for file in files if _is_image(file)]  # noqa: PTH118
    return sorted(found)


def _is_image(file: str) -> bool:
    return file.lower().endswith(_EXTENSIONS) and not file.startswith(".")
