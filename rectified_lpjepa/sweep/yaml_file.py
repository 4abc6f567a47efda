"""YAML files read strictly: numbers as ``fit`` reads them, no key twice, no unknown key, every value of its type."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import yaml

from rectified_lpjepa.commands import nearest

try:
    from yaml import CSafeLoader as SafeLoader  # thirty times as fast, where PyYAML was built with it
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]


class _Loader(SafeLoader):
    """PyYAML's loader with YAML 1.2's numbers: 1e-4 is a float, and 12:00:00 is a text, as is a date."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("float", "int", "timestamp")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TAGS]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.[0-9]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML, or no mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        content = read_value(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping of keys to values, got {type(content).__name__}.")
    return content


def read_value(text: str) -> Any:
    """Read the value that a YAML text stands for.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    return yaml.load(text, Loader=_Loader)


def build(kind: type, given: Any, where: str = "") -> Any:
    """Make an object of a dataclass from a mapping.

    Args:
        kind: the dataclass; its fields may be dataclasses, too, and lists and mappings of them.
        given: what was read.
        where: dotted place of the mapping in its file, with a dot at the end, for messages.

    Raises:
        ValueError: a key is unknown or missing, or a value is not of its type.
    """
    names = [part.name for part in fields(kind)]
    if not isinstance(given, dict):
        raise ValueError(f"{where.rstrip('.')} must be a mapping with keys of {', '.join(names)}, got {given!r}.")
    hints = get_type_hints(kind)
    values = {}
    for name, value in given.items():
        if name not in hints:
            raise ValueError(f"there is no key {where}{name}; known are {', '.join(names)}.{nearest(str(name), names)}")
        values[name] = _built(hints[name], value, f"{where}{name}")
    for part in fields(kind):
        if part.name not in values and part.default is MISSING and part.default_factory is MISSING:
            raise ValueError(f"the key {where}{part.name} is missing.")
    return kind(**values)


def _built(hint: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return build(cast("type", hint), value, f"{where}.")
    if origin is list and is_dataclass(inner[0]) and isinstance(value, list):
        return [_built(inner[0], part, f"{where}[{place}]") for place, part in enumerate(value)]
    if origin is dict and is_dataclass(inner[1]) and isinstance(value, dict):
        return {name: _built(inner[1], part, f"{where}.{name}") for name, part in value.items()}
    if not _fits(value, hint):
        raise ValueError(f"{where} must be {_named(hint)}, got {value!r}.")
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is UnionType:
        return any(_fits(value, kind) for kind in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(part, inner[0]) for part in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _named(hint: Any) -> str:
    return str(hint).replace("typing.", "") if get_origin(hint) is not None else str(hint.__name__)
