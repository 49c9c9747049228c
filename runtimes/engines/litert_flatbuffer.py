"""Flatbuffers read without trust: every offset is held against the file before it is followed.

Layout: flatbuffers' own internals page; little-endian, tables with a vtable, vectors with a count.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from edgeward.errors import EngineError

_MOST_ITEMS = 1 << 24


class DamagedFileError(EngineError):
    """A file whose offsets lead out of it."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: where it begins, and where each of its fields lies (0 where it has none)."""

    data: memoryview
    place: int
    fields: tuple[int, ...]

    def number(self, field: int, letter: str, default: int = 0) -> int:
        """Return an integer field; `letter` is struct's."""
        at = self._at(field)
        return default if not at else int(_unpack(self.data, letter, at))

    def table(self, field: int) -> Table | None:
        """Return the table that a field leads to."""
        at = self._at(field)
        return read_table(self.data, _follow(self.data, at)) if at else None

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables."""
        start, count = self._vector(field, 4)
        places = (start + 4 * index for index in range(count))
        return [read_table(self.data, _follow(self.data, place)) for place in places]

    def numbers(self, field: int, letter: str) -> tuple[int, ...]:
        """Return a vector of numbers."""
        size = struct.calcsize(f"<{letter}")
        start, count = self._vector(field, size)
        return struct.unpack_from(f"<{count}{letter}", self.data, start) if count else ()

    def bytes(self, field: int) -> tuple[int, int]:
        """Return where a vector of bytes begins and how many they are."""
        return self._vector(field, 1)

    def text(self, field: int) -> str:
        """Return a string, empty where there is none."""
        start, count = self._vector(field, 1)
        return bytes(self.data[start : start + count]).decode("utf-8", "replace")

    def has(self, field: int) -> bool:
        """Whether a field is there."""
        return bool(self._at(field))

    def _at(self, field: int) -> int:
        return self.fields[field] if field < len(self.fields) else 0

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        at = self._at(field)
        if not at:
            return 0, 0
        start = _follow(self.data, at)
        count = int(_unpack(self.data, "I", start))
        if count * size > len(self.data) - start - 4 or (size > 1 and count > _MOST_ITEMS):
            raise damaged(f"a list of {count} items at byte {start} leaves the file")
        return start + 4, count


def root(data: memoryview) -> Table:
    """Return the table that a flatbuffer begins with."""
    return read_table(data, _follow(data, 0))


def read_table(data: memoryview, place: int) -> Table:
    """Read a table's vtable; EngineError where it leaves the file."""
    vtable = place - int(_unpack(data, "i", place))
    size, inside = (int(_unpack(data, "H", vtable + 2 * half)) for half in range(2))
    if size < 4 or size % 2 or inside < 4 or place + inside > len(data):
        raise damaged(f"the table at byte {place} is not one")
    _within(data, vtable, size)
    offsets: Sequence[int] = struct.unpack_from(f"<{size // 2 - 2}H", data, vtable + 4)
    if any(offset >= inside for offset in offsets):
        raise damaged(f"the table at byte {place} has fields outside of it")
    return Table(data, place, tuple(place + offset if offset else 0 for offset in offsets))


def damaged(why: str) -> DamagedFileError:
    """Return the error for a file that cannot be what it says."""
    return DamagedFileError("The TFLite file is damaged", why=why, next="edgeward verify BUNDLE")


def _follow(data: memoryview, at: int) -> int:
    place = at + int(_unpack(data, "I", at))
    _within(data, place, 4)
    return place


def _unpack(data: memoryview, letter: str, at: int) -> int:
    _within(data, at, struct.calcsize(f"<{letter}"))
    value: int = struct.unpack_from(f"<{letter}", data, at)[0]
    return value


def _within(data: memoryview, at: int, size: int) -> None:
    if at < 0 or at + size > len(data):
        raise damaged(f"byte {at} is outside of its {len(data)} bytes")
