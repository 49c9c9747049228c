"""Timing artifacts in their engine, one way for every task: one alone, or several in turn."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from edgeward.runtimes.engines.base import Engine, EngineOptions, EngineSession
from edgeward.runtimes.engines.bucketed import listed, open_buckets
from edgeward.runtimes.engines.registry import engine_for
from edgeward.runtimes.statistics.memory import peak_bytes
from edgeward.targets.bench.host import machine
from edgeward.targets.bench.latencies import measure

from .stage_context import StageContext
from .tasks import task_spec

_WARMUP, _REPETITIONS = 5, 50
# A request that takes long is repeated less often, but for percentiles to mean anything.
_SECONDS, _FEWEST = 15.0, 5
_RACE_WARMUP, _RACE_ROUNDS = 3, 40


class Timed(NamedTuple):
    """A task's typical request: how an engine session is asked it, and what it is, in words.

    `figures_of` measures what one latency does not tell, in milliseconds.
    """

    request_of: Callable[[EngineSession], Callable[[], object]]
    tokens: int
    what: str
    figures_of: Callable[[EngineSession], Mapping[str, float]] | None = None


def open_engine(model: Path, params: Mapping[str, Any]) -> EngineSession:
    """Open an artifact with the threads that the stage was asked for, its parts beside it.

    `engine_module` names an engine that comes with the format: a toolchain sees no entry points.
    """
    parts = {role: model.parent / f"{role}{model.suffix}" for role in params.get("parts", ())}
    options = EngineOptions(threads=params["threads"], parts=parts)
    named = params.get("engine_module")
    engine = cast(Engine, importlib.import_module(named)) if named else engine_for(params["format"])
    if "shapes" in params:
        return open_buckets(engine, model.parent, listed(params["shapes"]), options)
    return engine.open_model(model, options)


def benchmark(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return load time, first inference and latency of one request, in milliseconds."""
    timed = _timed(context, params)
    began = time.perf_counter()
    engine = open_engine(context.inputs["model"], params)
    load_ms = (time.perf_counter() - began) * 1e3
    request = timed.request_of(engine)
    began = time.perf_counter()
    request()
    first_ms = (time.perf_counter() - began) * 1e3
    warmup, repetitions = calls_of(first_ms / 1e3)
    found = measure(request, warmup=warmup, repetitions=repetitions)
    figures = timed.figures_of(engine) if timed.figures_of else {}
    return {
        "measured": {
            **figures,
            "load_ms": load_ms,
            "first_ms": first_ms,
            "latency_p50_ms": found.p50_ms,
            "latency_p95_ms": found.p95_ms,
            "latency_p99_ms": found.p99_ms,
            "repetitions": float(found.repetitions),
            "throughput_per_s": found.throughput_per_s,
            "tokens": float(timed.tokens),
            "threads": float(params["threads"]),
            "peak_memory_bytes": float(peak_bytes()),
        },
        "machine": {k: str(v) for k, v in machine().to_dict().items() if v is not None},
        "summary": f"{timed.what}, {params['threads']} thread: p50 {found.p50_ms:.2f} ms, "
        f"p95 {found.p95_ms:.2f} ms, load {load_ms:.0f} ms",
    }


def calls_of(seconds: float) -> tuple[int, int]:
    """Return how often a request that took so long is called to warm up, and to be timed."""
    possible = int(_SECONDS / max(seconds, 1e-9))
    repetitions = min(max(possible, _FEWEST), _REPETITIONS)
    return -(-repetitions * _WARMUP // _REPETITIONS), repetitions


def race(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return each artifact's median time over the first one's, called in turn in one process.

    Drift of the machine meets all alike: the ratio is the median of the rounds' own ratios.
    """
    timed, names = _timed(context, params), list(params["precisions"])
    requests = [timed.request_of(open_engine(context.inputs[name], params)) for name in names]
    rounds: list[list[float]] = []
    for number in range(_RACE_WARMUP + _RACE_ROUNDS):
        times = [0.0] * len(names)
        for place in range(len(names)):
            which = (place + number) % len(names)
            began = time.perf_counter()
            requests[which]()
            times[which] = time.perf_counter() - began
        if number >= _RACE_WARMUP:
            rounds.append(times)
        context.progress(number / (_RACE_WARMUP + _RACE_ROUNDS))
    ratios = {
        name: statistics.median(times[which] / times[0] for times in rounds)
        for which, name in enumerate(names)
    }
    words = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return {"ratios": ratios, "summary": f"{timed.what}, in turn: {words}"}


def _timed(context: StageContext, params: Mapping[str, Any]) -> Timed:
    module, _, name = task_spec(params["task"]).timed.partition(":")
    return cast(Timed, getattr(importlib.import_module(module), name)(context, params))
