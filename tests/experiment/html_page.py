"""An HTML page as tests look at it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """Parses a page; every element must be closed in its turn, and no attribute or id may be given twice.

    Attributes:
        attributes: name of the element and its attributes, for each element.
        tables: rows of cells of text, for each table.
        text: all that is read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self._open: list[str] = []
        content = path.read_text(encoding="utf-8")
        assert content.startswith("<!DOCTYPE html>")
        self.feed(content)
        self.close()
        assert self._open == []
        ids = self.all("id")
        assert len(ids) == len(set(ids))

    def all(self, attribute: str) -> list[str]:
        return [values[attribute] for _, values in self.attributes if attribute in values]

    def elements(self, tag: str) -> list[dict[str, str]]:
        return [values for name, values in self.attributes if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.attributes.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data
        if {"td", "th"} & set(self._open):
            cell = self.tables[-1][-1][-1] + data
            self.tables[-1][-1][-1] = " ".join(cell.split()) + (" " if data.endswith(" ") else "")


def check_is_self_contained(page: Page, folder: Path) -> None:
    """Nothing is fetched, and every link leads to a place in the page, to a file that is there, or to the paper."""
    assert not page.elements("link")
    assert not page.elements("iframe")
    assert all("src" not in script for script in page.elements("script"))
    assert all(source.startswith("data:") for source in page.all("src"))
    for link in page.all("href"):
        if link.startswith("#"):
            assert link[1:] in page.all("id")
        elif link != "https://arxiv.org/abs/2602.01456":
            assert ":" not in link
            assert (folder / unquote(link)).exists(), link
