"""Golden inputs: run here what every bundle carries, and hold it to its own tolerances."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import BundleError
from edgeward.runtimes.bundle.manifest import Check, EngineRef
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.session import load
from edgeward.runtimes.statistics.memory import peak_bytes

from .compare import judge
from .registry import proof_for

LATENCY_REPETITIONS = 30


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """What a run of the golden inputs showed on this machine."""

    checks: tuple[Check, ...]
    cases: int
    engine: EngineRef
    load_ms: float
    latency_ms: dict[str, float]
    peak_memory_bytes: int
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the report as the gate reads it."""
        return {
            "passed": self.passed,
            "checks": [{**c.model_dump(mode="json"), "passed": c.passed} for c in self.checks],
            "cases": self.cases,
            "engine": self.engine.model_dump(mode="json"),
            "load_ms": self.load_ms,
            "latency_ms": self.latency_ms,
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def run_golden(
    bundle: Bundle, *, threads: int = 0, engine: str | None = None, plan: Path | None = None
) -> GoldenReport:
    """Load the bundle here and run its golden inputs against its own tolerances.

    `engine` and `plan` as `load` takes them. Raises BundleError where it carries none,
    EngineError where it cannot be loaded.
    """
    golden = bundle.manifest.golden
    if golden is None or not golden.tolerances:
        raise BundleError(
            f"{bundle.path} carries no golden inputs",
            why="so its proof cannot be run again",
            next="edgeward compile makes bundles that carry them",
        )
    proof = proof_for(bundle.manifest.task)
    cases = proof.read_cases(bundle.path)
    session = load(bundle, threads=threads, engine=engine, plan=plan)
    metrics = proof.metrics(session, cases)
    return GoldenReport(
        checks=tuple(judge(metrics, golden.tolerances)),
        cases=proof.count(cases),
        engine=session.engine.ref,
        load_ms=session.recorder.load_ms,
        latency_ms=_latency(proof.request(session, cases)),
        peak_memory_bytes=peak_bytes(),
        metrics=metrics,
    )


def _latency(request: Callable[[], object]) -> dict[str, float]:
    times: list[float] = []
    for _ in range(LATENCY_REPETITIONS):
        began = time.perf_counter()
        request()
        times.append((time.perf_counter() - began) * 1e3)
    p50, p95, p99 = (float(q) for q in np.percentile(times, [50, 95, 99]))
    return {"p50": p50, "p95": p95, "p99": p99}
