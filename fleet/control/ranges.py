"""HTTP byte ranges (RFC 9110, section 14): what part of a file a request wants."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `end`, the end not included, of a file of `size`."""

    start: int
    end: int
    size: int

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.end - self.start

    @property
    def content_range(self) -> str:
        """The Content-Range header of a 206."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


class UnsatisfiableError(Exception):
    """The range lies outside the file: the answer is 416."""


def wanted_part(header: str | None, size: int) -> Part | None:
    """Return the one range that `header` asks for, or None for the whole file.

    Several ranges, other units and malformed headers mean the whole file, which RFC 9110
    allows; so nobody can make one request cost many. Raises UnsatisfiableError.
    """
    match = _ONE_RANGE.fullmatch(header) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if first:
        return _from_start(int(first), int(last) if last else size - 1, size)
    if last:
        return _suffix(int(last), size)
    return None


def _from_start(start: int, last: int, size: int) -> Part | None:
    if start >= size:
        raise UnsatisfiableError
    if last < start:
        return None
    return Part(start, min(last + 1, size), size)


def _suffix(length: int, size: int) -> Part:
    if not length or not size:
        raise UnsatisfiableError
    return Part(max(0, size - length), size, size)
