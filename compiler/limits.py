"""How long a stage may take and how much memory it may use."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeward.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one stage. None: no bound on time; memory that is available when it starts."""

    seconds: float | None = None
    memory_bytes: int | None = None


def limits_of(seconds: float | None, memory_gib: float | None) -> Limits:
    """Return the limits that a user asked for; UsageError for what is no positive number."""
    for name, value in (("time", seconds), ("memory", memory_gib)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"A {name} limit of {value} is none")
    return Limits(seconds, None if memory_gib is None else int(memory_gib * 2**30))
