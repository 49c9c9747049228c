"""Large blocks go back to the system as soon as an engine frees them, where glibc serves memory.

While a session is made, weights are read, packed for their products and freed one by one. glibc
gives a large block pages of its own, but from the first that is freed on it keeps ever larger ones
in its heap, up to 32 MiB: holes that no later block fills, a third more memory than the model.
What is smaller leaves holes all the same, whose whole pages can be given back when all is made.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# malloc.h; mallopt(3): the first size that has pages of its own, the free end that is kept.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_OWN_PAGES = 128 << 10
# Where glibc's own rule ends, so that what runs later allocates as fast as it would have.
_LARGEST, _LARGEST_END = 32 << 20, 64 << 20


@contextmanager
def freed_blocks() -> Iterator[None]:
    """Give back what is freed within; nothing changes where the C library is not glibc."""
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_END)
        give_back_holes()


def give_back_holes() -> None:
    """Give back the whole pages between blocks in use, such as reading a tokenizer leaves.

    Source: malloc_trim(3), a millisecond with the holes of 50000 words.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def own_pages() -> None:
    """Give back each large block from now on: for an engine whose texts have large caches each.

    Else a second text's lies in the heap, in other places than the first one's, and no end of
    either is given back: of a decoder with 48 MiB a cache, 50 MiB more (LiteRT, docs/planning.md).
    """
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES)


def _mallopt() -> Callable[[int, int], int] | None:
    """glibc's mallopt(parameter, value); None elsewhere."""
    library = _glibc()
    return None if library is None else library.mallopt


@cache
def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library
