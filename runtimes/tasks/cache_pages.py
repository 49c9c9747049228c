"""Pages of a cache's own: what is let go of is the system's again, where malloc would keep it."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np

from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.engines.huge_pages import madvise

# include/uapi/asm-generic/mman-common.h
_MADV_DONTNEED = 4


def pages(count: int, dtype: Any) -> Tensor:
    """Return room for so many numbers, zeros, that takes memory where it is written."""
    size = max(1, count) * np.dtype(dtype).itemsize
    own = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    return np.frombuffer(mmap.mmap(-1, size, **own), dtype, count)


def let_go(part: Tensor) -> None:
    """Give back the whole pages of a part of such room before all of it is; its numbers are lost.

    Where the system cannot, they go when the room does.
    """
    advise, page = madvise(), mmap.PAGESIZE
    begin = -(-part.ctypes.data // page) * page
    end = (part.ctypes.data + part.nbytes) // page * page
    if advise is not None and begin < end:
        advise(begin, end - begin, _MADV_DONTNEED)
