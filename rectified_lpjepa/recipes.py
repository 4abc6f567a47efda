"""The recipes and experiments that come with the package: where they lie, and recipes by name.

A recipe's name is its path below ``configs`` without ``.yaml``: ``digits``, ``baselines/lejepa``, ``sweeps/digits_mu``.
"""

from __future__ import annotations

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).parent
# A wheel carries both folders in the package (pyproject.toml says so); a checkout has them beside it.
_HOME = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
CONFIGS = _HOME / "configs"
EXPERIMENTS = _HOME / "experiments"
_SWEEPS = "sweeps/"


def recipe_names() -> list[str]:
    """List the names of all recipes, those of sweeps among them."""
    return sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))


def find_config(given: str | Path, folder: Path = Path()) -> Path:
    """Find a configuration of ``fit``.

    Args:
        given: a path, or the name of a recipe; where there is a file of this path, it is the path.
        folder: from which a relative path goes out.

    Raises:
        FileNotFoundError: it is neither; the message lists the recipes and names the nearest.
    """
    return _find(given, folder, [name for name in recipe_names() if not name.startswith(_SWEEPS)])


def find_sweep(given: str | Path) -> Path:
    """Find a sweep file, as :func:`find_config` does a configuration."""
    return _find(given, Path(), [name for name in recipe_names() if name.startswith(_SWEEPS)])


def _find(given: str | Path, folder: Path, known: list[str]) -> Path:
    path = folder / given
    if path.exists() and not path.is_dir():
        return path
    if str(given) in known:
        return CONFIGS / f"{given}.yaml"
    raise FileNotFoundError(
        f"There is no file {path}, and no recipe of this name. The recipes are {', '.join(known)}."
        f"{_nearest(Path(given), known)}"
    )


def _nearest(given: Path, known: list[str]) -> str:
    """Give a hint with the recipes whose names, or the last parts of them, are nearest."""
    by_end = {Path(name).name: name for name in known}
    near = [by_end[end] for end in difflib.get_close_matches(given.stem, by_end, n=2)]
    near = near or difflib.get_close_matches(str(given.with_suffix("")), known, n=2)
    return f"\n  HINT: did you mean {' or '.join(near)}?" if near else ""
