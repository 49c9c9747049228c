"""The on-device gate's judgement: what the self-test said, held against what the target allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from edgeward.errors import ManifestError
from edgeward.runtimes.bundle.canonical import parse
from edgeward.runtimes.bundle.manifest import Manifest
from edgeward.runtimes.child import Ended

from ..protocol.documents import GateFigure, GateReport, Problem
from .device import GateLimits

PASSED, FELL_SHORT = 0, 3
MAX_FIGURES = 48
MEASURED_P50 = "latency_p50_ms"
# Below this a ratio of latencies tells more about the clock than about the model.
LEAST_COMPILED_MS = 1.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """The report, and the problem where the bundle is refused."""

    report: GateReport
    problem: Problem | None


def judge(
    digest: str, manifest: Manifest, ended: Ended, limits: GateLimits, heat: float | None
) -> Judgement:
    """Return the gate's report; a self-test that died, hung or said nothing is a refusal."""
    document, why = _said(ended)
    figures = [*_checks(document), *_costs(document, manifest, ended, limits, heat)]
    missed = [f"{each.metric} {each.value:g}" for each in figures if not each.passed]
    if not why and missed:
        why = "out of bounds: " + ", ".join(missed)
    if not why and not (document.get("passed") is True and ended.status == PASSED):
        why = "the self-test says that it did not pass"
    report = GateReport(bundle=digest, passed=not why, figures=figures, engine=_engine(document))
    if not why:
        return Judgement(report, None)
    problem = Problem(error="GateError", what="The gate refused the bundle", why=why[:2000])
    return Judgement(report, problem)


def _said(ended: Ended) -> tuple[dict[str, Any], str]:
    if ended.stopped:
        return {}, f"the self-test was stopped: {ended.stopped}"
    if ended.status < 0:
        return {}, f"the self-test died of signal {-ended.status}: {ended.errors[-500:]}"
    if ended.status not in (PASSED, FELL_SHORT):
        return {}, f"the self-test failed with status {ended.status}: {ended.errors[-500:]}"
    try:
        return parse(ended.output, "self-test's report"), ""
    except ManifestError as error:
        return {}, f"{error.what}: {error.why}"


def _checks(document: Mapping[str, Any]) -> Iterator[GateFigure]:
    checks = document.get("checks")
    for check in checks[:MAX_FIGURES] if isinstance(checks, list) else []:
        if not isinstance(check, dict):
            continue
        value, bound = _number(check.get("value")), _number(check.get("bound"))
        direction = check.get("direction")
        if value is None or bound is None or direction not in ("at-least", "at-most"):
            continue
        if figure := _figure(str(check.get("metric")), value, bound, direction):
            yield figure


def _costs(
    document: Mapping[str, Any],
    manifest: Manifest,
    ended: Ended,
    limits: GateLimits,
    heat: float | None,
) -> Iterator[GateFigure]:
    latency = document.get("latency_ms")
    times = latency if isinstance(latency, dict) else {}
    p50, p95 = _number(times.get("p50")), _number(times.get("p95"))
    compiled = manifest.performance.measured.get(MEASURED_P50)
    ratio = None
    if p50 is not None and compiled is not None:
        ratio = p50 / max(compiled, LEAST_COMPILED_MS)
    memory = max(ended.peak_memory_bytes, _number(document.get("peak_memory_bytes")) or 0.0)
    for metric, value, bound in (
        ("latency_ms_p95", p95, limits.max_latency_ms),
        ("latency_ratio_p50", ratio, limits.max_latency_ratio),
        ("peak_memory_bytes", memory or None, limits.max_memory_bytes),
        ("temperature_c", heat, limits.max_temperature_c),
    ):
        if value is not None and bound is not None:
            figure = _figure(metric, value, float(bound), "at-most")
            if figure is not None:
                yield figure


def _figure(
    metric: str, value: float, bound: float, direction: Literal["at-least", "at-most"]
) -> GateFigure | None:
    passed = value >= bound if direction == "at-least" else value <= bound
    try:
        return GateFigure(
            metric=metric[:200], value=value, bound=bound, direction=direction, passed=passed
        )
    except ValidationError:
        return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _engine(document: Mapping[str, Any]) -> str:
    engine = document.get("engine")
    if not isinstance(engine, dict):
        return ""
    words = (str(engine.get(key, "")) for key in ("name", "version", "provider"))
    return " ".join(word for word in words if word)[:200]
