"""What an engine frees while it loads is no longer the process's."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Blocks ever larger, each freed while a small one keeps the heap's end from shrinking.
_GROWING = """
import ctypes, sys
from contextlib import nullcontext
from edgeward.runtimes.engines.freed_blocks import freed_blocks
from edgeward.runtimes.statistics.memory import resident_bytes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
before = resident_bytes()
with freed_blocks() if sys.argv[1] == "freed" else nullcontext():
    libc.free(libc.malloc(31 << 20))
    held = []
    for size in range(1, 12):
        block = libc.malloc(size << 20)
        ctypes.memset(block, 1, size << 20)
        held.append((block, libc.malloc(1 << 18)))
    for block, _ in held:
        libc.free(block)
print(resident_bytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap")
def test_large_blocks_go_back_at_once() -> None:
    kept, freed = (
        int(subprocess.run([sys.executable, "-c", _GROWING, how], capture_output=True).stdout)
        for how in ("kept", "freed")
    )
    assert freed < 8 << 20 < 32 << 20 < kept
