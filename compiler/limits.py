"""How long a stage may take and how much memory it may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one stage. None: no bound on time; memory that is available when it starts."""

    seconds: float | None = None
    memory_bytes: int | None = None
