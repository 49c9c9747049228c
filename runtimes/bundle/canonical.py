"""Canonical JSON: the one byte string that a document is signed and named by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from edgeward.errors import ManifestError

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
MAX_DEPTH = 64


def canonical_bytes(document: Any) -> bytes:
    """Return the UTF-8 bytes with sorted keys and no white space (after RFC 8785).

    Raises ValueError on NaN and infinities, which JSON does not have, TypeError on keys that are
    not strings: `1` and `"1"` would meet.
    """
    _refuse_odd_keys(document)
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest(document: Any) -> str:
    """Return the sha256 of the canonical bytes, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_bytes(document)).hexdigest()


def parse(data: bytes, what: str = "document") -> dict[str, Any]:
    """Parse a JSON object from outside: no duplicate keys, NaN, lone surrogates or deep nesting.

    Raises ManifestError with the reason.
    """
    try:
        document = json.loads(
            data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
        canonical_bytes(document)
    except UnicodeError as error:
        raise ManifestError(f"The {what} is not UTF-8", why=str(error)) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ManifestError(f"The {what} is not JSON", why=reason) from None
    if not isinstance(document, dict):
        raise ManifestError(
            f"The {what} is not a JSON object", why=f"got {type(document).__name__}"
        )
    if _depth(document) > MAX_DEPTH:
        raise ManifestError(f"The {what} is not JSON", why=f"nested deeper than {MAX_DEPTH}")
    return document


def _refuse_odd_keys(document: Any) -> None:
    if isinstance(document, Mapping):
        for key, item in document.items():
            if not isinstance(key, str):
                raise TypeError(f"a key that is not a string: {key!r}")
            _refuse_odd_keys(item)
    elif isinstance(document, (list, tuple)):
        for item in document:
            _refuse_odd_keys(item)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                children.extend(item.values())
            elif isinstance(item, list):
                children.extend(item)
        level = children
    return deepest
