"""Find the line of a key in TOML text, for error messages.

A scan of headers and keys, not a second parser: it is given text that `tomllib` has accepted and
answers with the line of the deepest part of the key that it can see.
"""

from __future__ import annotations

import re

Key = tuple[str, ...]

_PART = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})[ \t]*=")
_ONE_PART = re.compile(_PART)
_FENCES = ('"""', "'''")


def line_of(text: str, key: Key) -> int:
    """Return the 1-based line of `key` (array items by their index), or of its nearest parent."""
    best, best_depth = 1, 0
    table: Key = ()
    counts: dict[Key, int] = {}
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if fence:
            fence = "" if fence in line else fence
            continue
        header, assignment = _HEADER.match(line), _ASSIGNMENT.match(line)
        if header is not None:
            table = _table_key(_parts(header[2]), header[1] == "[[", counts)
            here = table
        elif assignment is not None:
            here = table + _parts(assignment[1])
        else:
            continue
        fence = _opened_fence(line)
        depth = _shared(here, key)
        if depth > best_depth:
            best, best_depth = number, depth
    return best


def _table_key(parts: Key, is_item: bool, counts: dict[Key, int]) -> Key:
    """Return a header's key with the index of each array of tables on its way."""
    if is_item:
        counts[parts] = counts.get(parts, -1) + 1
    key: list[str] = []
    for length, part in enumerate(parts, start=1):
        key.append(part)
        if parts[:length] in counts:
            key.append(str(counts[parts[:length]]))
    return tuple(key)


def _parts(dotted: str) -> Key:
    return tuple(part.strip("\"'") for part in _ONE_PART.findall(dotted))


def _opened_fence(line: str) -> str:
    """Return the multi-line string's delimiter that this line opens and does not close."""
    for fence in _FENCES:
        if line.count(fence) % 2 == 1:
            return fence
    return ""


def _shared(one: Key, other: Key) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
