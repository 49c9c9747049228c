"""Records what a session does: an append on the hot path, the arithmetic elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from .memory import resident_bytes
from .sketch import Sketch

_DRAIN_AT = 4096


class Observation(NamedTuple):
    """One request: milliseconds, counts, and the error's class where it failed."""

    latency_ms: float
    items: int = 1
    tokens_in: int = 0
    queue_ms: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution's figures in milliseconds; None where nothing was observed."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    maximum: float | None

    @classmethod
    def of(cls, sketch: Sketch) -> Quantiles:
        """Read the usual quantiles off a sketch."""
        p50, p90, p95, p99 = (sketch.quantile(q) for q in (0.5, 0.9, 0.95, 0.99))
        highest = sketch.maximum if sketch.count else None
        return cls(sketch.count, sketch.mean, p50, p90, p95, p99, highest)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything since the session was loaded."""

    requests: int
    items: int
    tokens_in: int
    errors: dict[str, int]
    load_ms: float
    memory_bytes: int
    latency: Quantiles
    queue: Quantiles


class Interval:
    """Counters and sketches of one stretch of time."""

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.requests = 0
        self.items = 0
        self.tokens_in = 0
        self.errors: Counter[str] = Counter()
        self.sketches: dict[str, Sketch] = {"latency_ms": Sketch(), "queue_ms": Sketch()}

    def add(self, observation: Observation) -> None:
        """Count one request; a failed one has no latency worth keeping."""
        self.requests += 1
        if observation.error is not None:
            self.errors[observation.error] += 1
            return
        self.items += observation.items
        self.tokens_in += observation.tokens_in
        self.sketches["latency_ms"].add(observation.latency_ms)
        if observation.queue_ms is not None:
            self.sketches["queue_ms"].add(observation.queue_ms)

    def to_json(self, bundle: str, ended_at: float) -> dict[str, Any]:
        """Return the delta that the spool keeps and the fleet merges."""
        return {
            "bundle": bundle,
            "started_at": self.started_at,
            "ended_at": ended_at,
            "requests": self.requests,
            "items": self.items,
            "tokens_in": self.tokens_in,
            "tokens_out": 0,
            "errors": dict(self.errors),
            "memory_bytes": resident_bytes(),
            "sketches": {name: s.to_json() for name, s in self.sketches.items() if s.count},
        }


class Recorder:
    """Collects observations of one session; safe to call from several threads."""

    def __init__(self, bundle: str, load_ms: float) -> None:
        self.bundle = bundle
        self.load_ms = load_ms
        self._pending: deque[Observation] = deque()
        self._lock = threading.Lock()
        self._total = Interval(time.time())
        self._interval = Interval(time.time())
        self._note_load()

    def record(self, observation: Observation) -> None:
        """Keep one observation; costs an append."""
        self._pending.append(observation)
        if len(self._pending) >= _DRAIN_AT:
            self._drain()

    def snapshot(self) -> Snapshot:
        """Return the figures since the session was loaded."""
        self._drain()
        total = self._total
        with self._lock:
            return Snapshot(
                requests=total.requests,
                items=total.items,
                tokens_in=total.tokens_in,
                errors=dict(total.errors),
                load_ms=self.load_ms,
                memory_bytes=resident_bytes(),
                latency=Quantiles.of(total.sketches["latency_ms"]),
                queue=Quantiles.of(total.sketches["queue_ms"]),
            )

    def take_delta(self) -> dict[str, Any] | None:
        """Return what came since the last delta, None where nothing did; a new interval begins."""
        self._drain()
        with self._lock:
            interval, now = self._interval, time.time()
            if not interval.requests and "load_ms" not in interval.sketches:
                return None
            self._interval = Interval(now)
            return interval.to_json(self.bundle, now)

    def _note_load(self) -> None:
        sketch = Sketch()
        sketch.add(self.load_ms)
        self._interval.sketches["load_ms"] = sketch

    def _drain(self) -> None:
        with self._lock:
            while self._pending:
                observation = self._pending.popleft()
                self._total.add(observation)
                self._interval.add(observation)
