"""A figure with all that a page says of it."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


class NothingToDrawError(ValueError):
    """The results at hand have nothing that a figure could show, or not enough to tell its points apart."""


@dataclass(frozen=True)
class Drawing:
    """A figure and its words.

    Attributes:
        figure: to be saved.
        title: of the figure, for its heading.
        alt: what it shows, for those who cannot see it.
        note: how to read it; may be empty.
    """

    figure: Figure
    title: str
    alt: str
    note: str = ""
