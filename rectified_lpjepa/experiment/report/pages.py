"""HTML from templates: text from files is always escaped, and a page needs nothing but itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rectified_lpjepa.files import write_text


def write_page(path: Path, template: str, **content: Any) -> None:
    """Write a page.

    Args:
        path: of the page.
        template: name of a file in ``templates``.
        content: what the template calls by name.
    """
    environment = Environment(
        loader=PackageLoader("rectified_lpjepa.experiment.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    write_text(path, environment.get_template(template).render(content))


def date(iso: str | None) -> str:
    """Write a date as people read it: to the minute; an unknown one is empty."""
    return "" if iso is None else iso[:16].replace("T", " ") + (" UTC" if iso.endswith("+00:00") else "")
