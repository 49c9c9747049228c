"""Huge pages under an engine's weights, where Linux gives them on request.

A decoder reads all its weights for every token. In pages of 4 KiB the processor looks most of the
addresses up in memory first; in pages of 2 MiB its own table (TLB) holds them. Most systems give
huge pages only to memory that asks: see `transparent_hugepage/enabled` ("madvise") and madvise(2).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

SETTING = "EDGEWARD_HUGE_PAGES"
_MAPS = Path("/proc/self/maps")
# include/uapi/asm-generic/mman-common.h; collapsing at once is Linux 6.1's.
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_LEAST = 4 << 20
Span = tuple[int, int]


@contextmanager
def huge_pages() -> Iterator[None]:
    """Put what is allocated within on huge pages; nothing where the system has none to give.

    `EDGEWARD_HUGE_PAGES=0` leaves memory as it is.
    """
    advise = _wanted()
    if advise is None:
        yield
        return
    before = _spans()
    yield
    for start, end in added(before, _spans()):
        if end - start >= _LEAST:
            advise(start, end - start, _MADV_HUGEPAGE)
            advise(start, end - start, _MADV_COLLAPSE)


def ask_for_huge_pages(address: int, size: int) -> None:
    """Ask for them under so many bytes before anything is written there, where it is worth it."""
    advise = _wanted()
    if advise is not None and size >= _LEAST:
        advise(address, size, _MADV_HUGEPAGE)


def added(before: Sequence[Span], after: Sequence[Span]) -> Iterator[Span]:
    """Give the parts of `after` that no span of `before` covers; both in order, apart."""
    for start, end in after:
        for low, high in before:
            if high <= start or low >= end:
                continue
            if low > start:
                yield start, low
            start = max(start, high)
        if start < end:
            yield start, end


def _wanted() -> Any:
    return madvise() if os.environ.get(SETTING, "1") != "0" and _MAPS.is_file() else None


@cache
def madvise() -> Any:
    """Return Linux's madvise(address, bytes, advice); None elsewhere."""
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None).madvise
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    function.restype = ctypes.c_int
    return function


def _spans() -> list[Span]:
    """This process's private memory that can be written and is no file's, by address."""
    try:
        lines = _MAPS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    return [span for line in lines if (span := _span(line)) is not None]


def _span(line: str) -> Span | None:
    """Source: proc_pid_maps(5)."""
    address, permissions, _, _, inode, *name = line.split(maxsplit=5)
    if permissions != "rw-p" or inode != "0" or name not in ([], ["[heap]"]):
        return None
    start, _, end = address.partition("-")
    return int(start, 16), int(end, 16)
