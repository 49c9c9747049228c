"""How much memory a tree of processes uses and how much there is, read from Linux's /proc.

Elsewhere every function answers 0 or None, and a stage's peak is what the worker reports of itself
(`ru_maxrss`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_KIB = 1024


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """`resident_bytes` is all that is in memory; `private_bytes` what cannot be dropped from it.

    Pages of mapped files (weights, libraries) are resident but the kernel takes them back at will,
    so only private memory counts against a limit.
    """

    resident_bytes: int
    private_bytes: int


NOTHING = MemoryUse(0, 0)


def tree_use(pid: int) -> MemoryUse:
    """Return the memory of a process and all its descendants, now."""
    resident = private = 0
    for member in _tree(pid):
        use = _process_use(member)
        resident += use.resident_bytes
        private += use.private_bytes
    return MemoryUse(resident, private)


def reset_peak(pid: int) -> None:
    """Let the kernel's high-water mark of a process begin again."""
    with suppress(OSError):
        (_PROC / str(pid) / "clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """Return the kernel's high-water mark of one process, 0 where it is not known."""
    return _status(pid).get("VmHWM", 0)


def available_bytes() -> int | None:
    """Return the memory that new work may use: the machine's, or the control group's if less."""
    machine = _status_file(_PROC / "meminfo").get("MemAvailable")
    group = _cgroup_left()
    known = [size for size in (machine, group) if size is not None]
    return min(known) if known else None


def _tree(pid: int) -> list[int]:
    found = [pid]
    for member in found:
        found.extend(_children(member))
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError, ValueError):
        for task in (_PROC / str(pid) / "task").iterdir():
            text = (task / "children").read_text()
            children.extend(int(word) for word in text.split())
    return children


def _process_use(pid: int) -> MemoryUse:
    status = _status(pid)
    private = status.get("RssAnon", 0) + status.get("RssShmem", 0)
    return MemoryUse(status.get("VmRSS", 0), private)


def _status(pid: int) -> dict[str, int]:
    return _status_file(_PROC / str(pid) / "status")


def _status_file(path: Path) -> dict[str, int]:
    """Return the lines `Name:  123 kB` of a status file, in bytes."""
    sizes: dict[str, int] = {}
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            words = value.split()
            if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
                sizes[name] = int(words[0]) * _KIB
    return sizes


def _cgroup_left() -> int | None:
    with suppress(OSError, ValueError):
        own = (_PROC / "self" / "cgroup").read_text().strip().rpartition("::")[2]
        folder = _CGROUP / own.lstrip("/")
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return None
        dropped = _inactive_file(folder)
        used = int((folder / "memory.current").read_text())
        return max(0, int(limit) - used + dropped)
    return None


def _inactive_file(folder: Path) -> int:
    """Cached file pages that a control group gives back before it kills."""
    for line in (folder / "memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return int(value)
    return 0
