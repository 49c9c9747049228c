"""Sizes and times as people read them."""

from __future__ import annotations

_KIB = 1024.0
_MINUTE = 60.0
_HOUR = 3600.0


def size_words(size_bytes: float) -> str:
    """Return bytes as `512 B`, `3.4 MiB`, `1.2 GiB`."""
    size = float(size_bytes)
    if size < _KIB:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= _KIB
        if size < _KIB:
            return f"{size:.1f} {unit}"
    return f"{size / _KIB:.1f} TiB"


def time_words(seconds: float) -> str:
    """Return seconds as `0.3 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE):02d} s"
    return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE):02d} min"
