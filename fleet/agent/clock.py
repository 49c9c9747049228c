"""Time as an agent may trust it: a dead clock must not brick a device, nor one that ran ahead."""

from __future__ import annotations

import time
from typing import Protocol

BUILD_TIME = 1_793_491_200.0
MAX_AHEAD_SECONDS = 10 * 365 * 86_400.0


class Clock(Protocol):
    """The three ways in which time reaches the agent."""

    def now(self) -> float:
        """Return the system's idea of Unix time."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return Unix time; it may be wrong by decades."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since some moment, the same for all processes of this boot."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def trusted_time(system: float, seen: float, build: float = BUILD_TIME) -> float:
    """Return max(system clock, build time, newest time that a verified document carried).

    A system clock more than ten years ahead of the others is passed over (2038 and the like).
    """
    known = max(build, seen)
    return known if system > known + MAX_AHEAD_SECONDS else max(system, known)
