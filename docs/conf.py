"""Settings of the documentation, see `make docs`."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PACKAGE = "rectified_lpjepa"
_PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _PROJECT["name"]
version = release = _PROJECT["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
nitpicky = True
# The types of other libraries are named, not linked: a build needs no network.
nitpick_ignore_regex = [("py:.*", rf"(?!{PACKAGE}\.).*")]

myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_copyright = False


def _show_formulas(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Show the indented formulas of docstrings letter by letter; reStructuredText would read markup into them."""
    shown, before, in_directive = [], "", False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not shown[-1].strip() and not in_directive and not before.startswith((" ", "* ", "- ")):
            shown += ["::", ""]
        shown.append(line)
        if line.strip():
            in_directive = line.startswith(".. ") or (in_directive and indented)
            before = line
    lines[:] = shown


def _name_outside_files(app: Sphinx, name: str, source: list[str]) -> None:
    """Name, in place of a link, what lies in the repository and not in the documentation."""
    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./((?!docs/)[^)]+)\)", r"\1 (`\2`)", source[0])


def _find_by_public_name(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: nodes.Node
) -> nodes.Node | None:
    """Find what a package exports under the module that defines it, where it is documented."""
    target = node.get("reftarget", "")
    module, _, name = target.rpartition(".")
    if node.get("refdomain") != "py" or not module.startswith(PACKAGE):
        return None
    try:
        thing = getattr(import_module(module), name, None)
    except ModuleNotFoundError:
        return None
    home = inspect.getmodule(thing)
    if home is None or home.__name__ == module:
        return None
    domain = environment.get_domain("py")
    return domain.resolve_xref(
        environment, node["refdoc"], app.builder, node["reftype"], f"{home.__name__}.{name}", node, content
    )


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.connect("autodoc-process-docstring", _show_formulas, priority=400)  # before napoleon
    app.connect("source-read", _name_outside_files)
    app.connect("missing-reference", _find_by_public_name)
