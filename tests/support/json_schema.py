"""The part of JSON Schema 2020-12 that the manifest's schema uses, and no keyword more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: _is_number(value) and value == value // 1,
    "number": lambda value: _is_number(value),
}
_SIMPLE: dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, kind: _TYPES[kind](value),
    "enum": lambda value, allowed: value in allowed,
    "pattern": lambda value, pattern: re.search(_from_ecma(pattern), value) is not None,
    "minLength": lambda value, bound: len(value) >= bound,
    "maxLength": lambda value, bound: len(value) <= bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "maxItems": lambda value, bound: len(value) <= bound,
    "maxProperties": lambda value, bound: len(value) <= bound,
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "required": lambda value, names: set(names) <= set(value),
}
_ANNOTATIONS = {"title", "description", "default", "$schema", "$defs"}


def faults(value: Any, schema: Schema, root: Schema | None = None, at: str = "") -> Iterator[str]:
    """Yield where `value` breaks `schema` and by which keyword."""
    root = root or schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        yield from faults(value, root["$defs"][name], root, at)
    if "type" in schema and not _TYPES[schema["type"]](value):
        yield f"{at}: type"
        return
    for keyword, wanted in schema.items():
        if keyword in _SIMPLE:
            if not _SIMPLE[keyword](value, wanted):
                yield f"{at}: {keyword}"
        elif keyword not in _ANNOTATIONS and keyword != "$ref":
            yield from _INNER[keyword](value, wanted, schema, root, at)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _from_ecma(pattern: str) -> str:
    """There, `$` is the end alone; here, a newline may follow it."""
    return re.sub(r"\$$", r"\\Z", pattern)


def _properties(value: Any, wanted: Schema, _: Schema, root: Schema, at: str) -> Iterator[str]:
    for name, inner in wanted.items():
        if name in value:
            yield from faults(value[name], inner, root, f"{at}/{name}")


def _others(value: Any, wanted: Any, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    for name in set(value) - set(schema.get("properties", {})):
        if isinstance(wanted, dict):
            yield from faults(value[name], wanted, root, f"{at}/{name}")
        elif not wanted:
            yield f"{at}/{name}: additionalProperties"


def _names(value: Any, wanted: Schema, _: Schema, root: Schema, at: str) -> Iterator[str]:
    for name in value:
        yield from faults(name, wanted, root, f"{at}/{name}")


def _items(value: Any, wanted: Schema, _: Schema, root: Schema, at: str) -> Iterator[str]:
    for number, item in enumerate(value):
        yield from faults(item, wanted, root, f"{at}/{number}")


def _any_of(value: Any, wanted: list[Schema], _: Schema, root: Schema, at: str) -> Iterator[str]:
    if all(any(True for _ in faults(value, inner, root, at)) for inner in wanted):
        yield f"{at}: anyOf"


_INNER: dict[str, Callable[[Any, Any, Schema, Schema, str], Iterator[str]]] = {
    "properties": _properties,
    "additionalProperties": _others,
    "propertyNames": _names,
    "items": _items,
    "anyOf": _any_of,
}
