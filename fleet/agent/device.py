"""What the agent asks about the machine that it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..protocol.release import Variant


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What a bundle may cost on a target, in milliseconds, bytes and degrees Celsius."""

    max_latency_ms: float | None = None
    max_latency_ratio: float | None = None
    max_memory_bytes: int | None = None
    max_temperature_c: float | None = None


class Device(Protocol):
    """The machine, seen through its target profiles."""

    @property
    def fingerprint(self) -> str:
        """The sha256 of what was found."""
        ...

    @property
    def target(self) -> str | None:
        """The target that it is, or plays."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What a model and its engine may take."""
        ...

    def rank(self, target: str) -> int:
        """Return how well a target matches (higher is better); DoesNotFitError where not."""
        ...

    def check_engine(self, variant: Variant) -> None:
        """Raise EngineError where the variant's engine is missing or has the wrong version."""
        ...

    def limits(self, target: str) -> GateLimits:
        """Return what the target's profile allows."""
        ...

    def temperature_c(self) -> float | None:
        """Return the hottest sensor's reading, None where there is none."""
        ...
