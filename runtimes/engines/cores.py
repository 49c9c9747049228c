"""How many cores this process may use: physical ones, as two threads of a core share its units."""

from __future__ import annotations

import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")


def physical_cores(root: Path = _CPUS) -> int:
    """Return the number of cores, of which at least one thread is this process's to use."""
    if not hasattr(os, "sched_getaffinity"):
        return max((os.cpu_count() or 2) // 2, 1)
    mine = os.sched_getaffinity(0)
    return max(len({_siblings(root, cpu) for cpu in mine}), 1)


def _siblings(root: Path, cpu: int) -> str:
    """The threads of the core that a processor number belongs to; itself where it does not tell."""
    try:
        return (root / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)
