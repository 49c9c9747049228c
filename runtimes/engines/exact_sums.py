"""Whether 8-bit products have to be asked for exact sums on this processor.

x86 without VNNI adds pairs of them in 16 bits, which overflow. ONNX Runtime avoids that with
weights that it writes anew and kernels of half the speed, on every x86 processor that asks for it;
VNNI adds four of them in 32 bits, exactly.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# As Linux names them: arch/x86/include/asm/cpufeatures.h
_SUMS_OF_FOUR = {"avx512_vnni", "avx_vnni"}


@cache
def pairs_overflow(cpuinfo: Path = _CPUINFO) -> bool:
    """Say whether sums may overflow: not where Linux tells that every core has VNNI."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    cores = [line.partition(":")[2].split() for line in lines if line.startswith("flags")]
    return not cores or any(_SUMS_OF_FOUR.isdisjoint(flags) for flags in cores)
