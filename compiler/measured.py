"""Timing an artifact in its engine, one way for every task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from edgeward.runtimes.engines.base import EngineOptions, EngineSession
from edgeward.runtimes.engines.registry import engine_for
from edgeward.runtimes.statistics.memory import peak_bytes
from edgeward.targets.bench import machine, measure

from .stage_context import StageContext

_WARMUP, _REPETITIONS = 5, 50


def open_engine(context: StageContext, params: Mapping[str, Any]) -> EngineSession:
    """Open the artifact with the threads that the stage was asked for."""
    options = EngineOptions(threads=params["threads"])
    return engine_for(params["format"]).open_model(context.inputs["model"], options)


def measured(
    context: StageContext,
    params: Mapping[str, Any],
    request_of: Callable[[EngineSession], Callable[[], object]],
    tokens: int,
    what: str,
) -> dict[str, Any]:
    """Return load time, first inference and latency of one request, in milliseconds.

    `request_of` makes the request that is timed; `tokens` and `what` describe it.
    """
    began = time.perf_counter()
    engine = open_engine(context, params)
    load_ms = (time.perf_counter() - began) * 1e3
    request = request_of(engine)
    began = time.perf_counter()
    request()
    first_ms = (time.perf_counter() - began) * 1e3
    timed = measure(request, warmup=_WARMUP, repetitions=_REPETITIONS)
    return {
        "measured": {
            "load_ms": load_ms,
            "first_ms": first_ms,
            "latency_p50_ms": timed.p50_ms,
            "latency_p95_ms": timed.p95_ms,
            "latency_p99_ms": timed.p99_ms,
            "throughput_per_s": timed.throughput_per_s,
            "tokens": float(tokens),
            "threads": float(params["threads"]),
            "peak_memory_bytes": float(peak_bytes()),
        },
        "machine": {k: str(v) for k, v in machine().to_dict().items() if v is not None},
        "summary": f"{what}, {params['threads']} thread: p50 {timed.p50_ms:.2f} ms, "
        f"p95 {timed.p95_ms:.2f} ms, load {load_ms:.0f} ms",
    }
