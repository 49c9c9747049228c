"""The parent's side of the line protocol: bytes in, checked messages out, no I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_LINE_BYTES = 8 << 20


class LineTooLongError(Exception):
    """A line without an end: whoever writes it does not speak the protocol."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker is up."""

    pid: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far: 0 to 1 or None."""

    fraction: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One finite figure."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the log: said on purpose, or what came where a message was due."""

    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """The stage ended well."""

    data: dict[str, Any]
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The stage raised; `classes` is the error's method resolution order, by name."""

    classes: tuple[str, ...]
    what: str
    why: str
    next: str
    text: str
    disk_full: bool
    out_of_memory: bool


Message = Ready | Progress | Metric | Log | Result | Failure


class LineReader:
    """Cuts a stream of bytes into lines of bounded length."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each line that `data` completes; raises LineTooLongError."""
        start = len(self._rest)
        self._rest += data
        end = self._rest.find(b"\n", start)
        while end >= 0:
            if end > self._limit:
                raise LineTooLongError(f"a line of {end} bytes")
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            yield line
            end = self._rest.find(b"\n")
        if len(self._rest) > self._limit:
            raise LineTooLongError(f"a line of more than {self._limit} bytes")


def parse(line: bytes, request: int) -> Message | None:
    """Return the message in a line, None for one that answers another request.

    What is no message becomes a Log: a stray print must not end a compile.
    """
    stray = Log(line[:2000].decode("utf-8", "replace"))
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return stray
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return stray
    if message["type"] == "ready":
        return Ready(_integer(message.get("pid")))
    if message.get("id") != request:
        return None
    return _PARSERS.get(message["type"], lambda _: stray)(message) or stray


def _progress(message: dict[str, Any]) -> Message | None:
    fraction = _number(message.get("fraction"))
    if fraction is not None:
        fraction = min(1.0, max(0.0, fraction))
    return Progress(fraction, _text(message.get("text")))


def _metric(message: dict[str, Any]) -> Message | None:
    value = _number(message.get("value"))
    name = _text(message.get("name"))
    return Metric(name, value) if name and value is not None else None


def _log(message: dict[str, Any]) -> Message | None:
    return Log(_text(message.get("text")))


def _result(message: dict[str, Any]) -> Message | None:
    data = message.get("data")
    if not isinstance(data, dict):
        return None
    return Result(data, _integer(message.get("peak")))


def _failure(message: dict[str, Any]) -> Message | None:
    classes = message.get("classes")
    names = [c for c in classes if isinstance(c, str)] if isinstance(classes, list) else []
    return Failure(
        classes=tuple(names[:32]),
        what=_text(message.get("what")),
        why=_text(message.get("why")),
        next=_text(message.get("next")),
        text=_text(message.get("text")),
        disk_full=message.get("disk_full") is True,
        out_of_memory=message.get("out_of_memory") is True,
    )


_PARSERS = {
    "progress": _progress,
    "metric": _metric,
    "log": _log,
    "result": _result,
    "error": _failure,
}


def _text(value: object, limit: int = 8000) -> str:
    return value[:limit] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
