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
nitpick_ignore_regex = [("py:.*", rf"(?!{PACKAGE}\.).*"), ("py:class", r".*\._\w+")]  # and private bases

myst_heading_anchors = 3
myst_links_external_new_tab = False

add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # what Lightning's hooks do is Lightning's to say
python_maximum_signature_line_length = 100
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_copyright = False


def _show_formulas(*event: Any) -> None:
    """Show the indented formulas of docstrings letter by letter; reStructuredText would read markup into them."""
    lines: list[str] = event[-1]
    shown: list[str] = []
    before, in_directive = "", False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not shown[-1].strip() and not in_directive and not before.startswith((" ", "* ", "- ")):
            shown += ["::", ""]
        shown.append(line)
        if line.strip():
            in_directive = line.startswith(".. ") or (in_directive and indented)
            before = line
    lines[:] = shown


def _keep_colons(*event: Any) -> None:
    """Keep napoleon from taking for a type what stands before a colon in the text of an attribute."""
    _, what, *_, lines = event
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\ ")  # nothing, in reStructuredText


def _hide_factories(*event: Any) -> tuple[str | None, str | None]:
    """Show an ellipsis for a default that is made anew each time, which Sphinx cannot read."""
    signature, returned = event[-2:]
    return signature and signature.replace("<factory>", "..."), returned


def _name_outside_files(*event: Any) -> None:
    """Name, in place of a link, what lies in the repository and not in the documentation."""
    source: list[str] = event[-1]
    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\((?:\.\./)+((?:configs|experiments)/[^)]+)\)", r"\1 (`\2`)", source[0])


def _find_by_public_name(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: nodes.Node
) -> nodes.Node | None:
    """Find what a package exports under the module that defines it, where it is documented."""
    target, domain = node.get("reftarget", ""), environment.get_domain("py")
    home = _home(target) if node.get("refdomain") == "py" and target.startswith(f"{PACKAGE}.") else target
    if home == target:
        return None
    return domain.resolve_xref(environment, node["refdoc"], app.builder, node["reftype"], home, node, content)


def _home(name: str) -> str:
    """Give the full name of what may be named by the package that exports it."""
    owner, _, last = name.rpartition(".")
    try:
        module = inspect.getmodule(getattr(import_module(owner), last, None))
    except ModuleNotFoundError:  # of a class
        return f"{_home(owner)}.{last}"
    return name if module is None else f"{module.__name__}.{last}"


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.connect("autodoc-process-docstring", _show_formulas, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)
    app.connect("autodoc-process-signature", _hide_factories)
    app.connect("source-read", _name_outside_files)
    app.connect("missing-reference", _find_by_public_name)
