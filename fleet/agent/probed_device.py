"""This machine through `edgeward.targets`: probed, or playing the target that it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from edgeward.errors import DoesNotFitError, EngineError, UsageError
from edgeward.targets.bench.host import temperature_c
from edgeward.targets.fingerprint import Fingerprint
from edgeward.targets.load import load, names
from edgeward.targets.match import best, compatible
from edgeward.targets.probe import probe
from edgeward.targets.profile import Profile
from edgeward.targets.versions import satisfies

from ..protocol.release import Variant
from .device import GateLimits

EXACT = 10**9


class ProbedDevice:
    """A Device; a told target counts as this machine's whatever the probe says."""

    def __init__(self, told: str | None, overrides: Mapping[str, object]) -> None:
        found = asdict(probe())
        self._fingerprint = Fingerprint.from_dict(_listed({**found, **overrides}))
        self._told = load(told) if told else None
        self._own = self._told or best(map(load, names()), self._fingerprint)

    @property
    def fingerprint(self) -> str:
        """The sha256 of the fingerprint."""
        return self._fingerprint.digest

    @property
    def target(self) -> str | None:
        """The name of the profile that describes it."""
        return self._own.name if self._own else None

    @property
    def memory_bytes(self) -> int:
        """What the profile lets a model take, at most what the machine has."""
        has = self._fingerprint.memory_bytes
        return min(has, self._own.hardware.usable_memory_bytes) if self._own else has

    def rank(self, target: str) -> int:
        """Return how well a target matches: its own first, then what is compatible."""
        if self._own is not None and target == self._own.name:
            return EXACT
        if self._told is not None:
            raise DoesNotFitError(f"This device is a {self._told.name}")
        found = compatible(self._profile(target), self._fingerprint, needs_memory_bytes=0)
        if not found.ok:
            raise DoesNotFitError("Another kind of device", why=", ".join(found.reasons))
        return found.score

    def check_engine(self, variant: Variant) -> None:
        """Raise EngineError unless the engine is installed in a version that the target takes."""
        has = self._fingerprint.engines.get(variant.engine)
        if has is None:
            raise EngineError(f"The engine {variant.engine} is not installed")
        for engine in self._profile(variant.target).engines:
            if engine.name == variant.engine and not satisfies(has, engine.version):
                raise EngineError(f"{engine.name} is {has}, the target needs {engine.version}")

    def limits(self, target: str) -> GateLimits:
        """Return the gate of the target's profile."""
        gate = self._profile(target).gate
        return GateLimits(
            max_latency_ms=gate.max_latency_ms,
            max_latency_ratio=gate.max_latency_ratio,
            max_memory_bytes=gate.max_memory_bytes,
            max_temperature_c=gate.max_temperature_c,
        )

    def temperature_c(self) -> float | None:
        """Return the hottest zone."""
        return temperature_c()

    def _profile(self, target: str) -> Profile:
        if self._own is not None and target == self._own.name:
            return self._own
        try:
            return load(target)
        except UsageError as error:
            raise DoesNotFitError(
                f"The target {target} is not known here", why=error.what
            ) from None


def _listed(document: Mapping[str, object]) -> dict[str, object]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in document.items()
    }
