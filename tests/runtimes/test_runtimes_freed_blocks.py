"""What an engine frees while it loads is no longer the process's."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from edgeward.runtimes.engines import freed_blocks as module
from edgeward.runtimes.engines.freed_blocks import freed_blocks
from edgeward.runtimes.tasks.tokens import load_tokenizer

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


# As parsing leaves them: small blocks of which every tenth stays.
_SMALL = """
import ctypes, sys
from edgeward.runtimes.engines.freed_blocks import give_back_holes
from edgeward.runtimes.statistics.memory import resident_bytes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(8 << 10) for _ in range(4000)]
for block in blocks:
    ctypes.memset(block, 1, 8 << 10)
for at, block in enumerate(blocks):
    if at % 10:
        libc.free(block)
before = resident_bytes()
if sys.argv[1] == "freed":
    give_back_holes()
print(before - resident_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap")
def test_pages_between_small_blocks_go_back_when_asked() -> None:
    kept, freed = (
        int(subprocess.run([sys.executable, "-c", _SMALL, how], capture_output=True).stdout)
        for how in ("kept", "freed")
    )
    assert kept < 1 << 20 < 20 << 20 < freed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap")
@pytest.mark.parametrize("reader", [freed_blocks, load_tokenizer])
def test_what_loads_asks_for_it_at_its_end(
    reader: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []
    library = SimpleNamespace(mallopt=lambda *_: 1, malloc_trim=asked.append)
    monkeypatch.setattr(module, "_glibc", lambda: library)
    if reader is freed_blocks:
        with freed_blocks():
            assert not asked
    else:
        Tokenizer(BPE()).save(str(tmp_path / "tokenizer.json"))
        load_tokenizer(tmp_path / "tokenizer.json")
    assert asked == [0]
