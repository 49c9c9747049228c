"""What the answer to a range request means; rules only.

A server, a proxy or a captive portal may answer anything at all. An answer is taken only where it
is the range that was asked for, or plainly the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum

MAX_RETRY_AFTER = 300.0
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class Verdict(str, Enum):
    """What to do with the body."""

    APPEND = "append"
    WHOLE = "whole"
    RESTART = "restart"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Asked:
    """The range that was asked for, `start` to `stop` (exclusive) of `size` bytes."""

    start: int
    stop: int
    size: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict, how many bytes the body has to have, and why where it is not taken."""

    verdict: Verdict
    length: int = 0
    why: str = ""
    retry_after: float | None = None


def judge(asked: Asked, status: int, headers: Mapping[str, str], now: float) -> Answer:
    """Return what an answer's status and headers (names in lower case) mean."""
    if status == 206:
        return _partial(asked, headers)
    if status == 200:
        return _whole(asked, headers)
    if status == 416:
        return Answer(Verdict.RESTART, why="HTTP 416: the server's file has another size")
    if status in (429, 503):
        wait = retry_after(headers.get("retry-after"), now)
        return Answer(Verdict.RETRY, why=f"HTTP {status}: the server is busy", retry_after=wait)
    why = f"HTTP {status}"
    if 300 <= status < 400:
        why += ": a redirect, as captive portals send them"
    return Answer(Verdict.RETRY, why=why)


def _partial(asked: Asked, headers: Mapping[str, str]) -> Answer:
    etag = headers.get("etag")
    if asked.etag is not None and etag is not None and etag != asked.etag:
        return Answer(Verdict.RESTART, why="the file changed on the server (another ETag)")
    found = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return Answer(Verdict.RETRY, why="a 206 without a Content-Range")
    start, last, size = map(int, found.groups())
    if size != asked.size:
        return Answer(Verdict.RESTART, why=f"the server's file has {size} bytes, not {asked.size}")
    if start != asked.start or not start <= last < asked.stop:
        return Answer(Verdict.RETRY, why=f"another range than was asked for: {start}-{last}")
    length = last + 1 - start
    if _content_length(headers) not in (None, length):
        return Answer(Verdict.RETRY, why="a 206 whose length is not its range's")
    return Answer(Verdict.APPEND, length)


def _whole(asked: Asked, headers: Mapping[str, str]) -> Answer:
    if "text/html" in headers.get("content-type", "").lower():
        return Answer(Verdict.RETRY, why="a web page instead of the file: a captive portal")
    if _content_length(headers) not in (None, asked.size):
        return Answer(Verdict.RETRY, why="a file of another length")
    return Answer(Verdict.WHOLE, asked.size)


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def retry_after(text: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110 10.2.3), at most five minutes."""
    if text is None:
        return None
    text = text.strip()[:64]
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(moment - now, 0.0), MAX_RETRY_AFTER)
