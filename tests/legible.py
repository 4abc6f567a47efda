"""Whether a figure can be read where it is printed: in a column of a paper."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.text import Text


def shown_texts(figure: Figure) -> list[Text]:
    """Return what is written; tick labels outside the view are kept by matplotlib but not drawn."""
    axes = [axis for part in figure.axes for axis in (part.xaxis, part.yaxis)]
    kept = {text for axis in axes for tick in axis.get_major_ticks() + axis.get_minor_ticks() for text in _labels(tick)}
    drawn = {text for axis in axes for tick in axis._update_ticks() for text in _labels(tick)}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible() and (text not in kept or text in drawn)
    ]


def _labels(tick) -> tuple[Text, Text]:
    return tick.label1, tick.label2


def assert_fits_a_column(figure: Figure) -> None:
    """Check that a figure is as wide as a column, and that nothing that is written is cut or tiny."""
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] == 3.4
    for text in shown_texts(figure):
        box = text.get_window_extent()
        inside = box.x0 > -2 and box.y0 > -2 and box.x1 < figure.bbox.x1 + 2 and box.y1 < figure.bbox.y1 + 2
        assert inside, text
        assert text.get_fontsize() >= 6.5, text
