"""`python -m edgeward.targets.bench.worker REQUEST`: measure one combination in a process alone.

REQUEST is `request.Request` as JSON. Prints one JSON object: the figures, or an `error`, and ends
with the error's exit code. Everything that is a process's own is true here: load time, the first
inference, peak memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from edgeward.errors import DoesNotFitError, EdgewardError
from edgeward.runtimes.bundle.read import open_bundle
from edgeward.runtimes.session import Session, load
from edgeward.runtimes.statistics.memory import peak_bytes

from .energy import Meter
from .figures import figures_of
from .host import ROOT, cpu_times, machine
from .noise import throttle_count
from .request import Request, from_json
from .scenarios import SystemClock, judge, run
from .warm_up import warm_up
from .workload import Workload

_SAMPLE_EVERY_NS = 100_000_000


def main(arguments: list[str]) -> int:
    """Measure, and print the figures."""
    out = _only_for_the_result()
    try:
        code, document = 0, measured(from_json(arguments[0]))
    except EdgewardError as error:
        code = error.exit_code
        told = {"what": error.what, "why": error.why, "next": error.next, "code": code}
        document = {"error": told}
    except MemoryError:
        code = DoesNotFitError.exit_code
        document = {"error": {"what": "Memory ran out", "why": "", "next": "", "code": code}}
    with os.fdopen(out, "w") as file:
        file.write(json.dumps(document) + "\n")
    return code


def measured(request: Request) -> dict[str, object]:
    """Load, ask once, warm up, run the scenario; every figure of it."""
    session = load(
        open_bundle(request.bundle, check="sizes"), threads=request.threads, check="sizes"
    )
    work = workload_of(session, request)
    begun = time.perf_counter_ns()
    first_token = work.ask(0)
    first_ms = (time.perf_counter_ns() - begun) / 1e6
    figures: dict[str, object] = {
        "load_ms": session.recorder.load_ms,
        "first_ms": first_ms,
        "first_ttft_ms": None if first_token is None else (first_token - begun) / 1e6,
        "engine": session.engine.ref.model_dump(mode="json"),
        "work": _shape(work),
    }
    if not request.once:
        figures |= _scenario(request, work)
    return {**figures, "peak_memory_bytes": peak_bytes()}


def workload_of(session: Session, request: Request) -> Workload:
    """Return the bundle's workload, by its task; BundleError or UsageError where there is none."""
    from . import work_generating, work_tensors

    makers: dict[str, Callable[[Session, Request], Workload]] = {
        "text-generation": work_generating.answers,
        "automatic-speech-recognition": work_generating.writings,
        "text2text-generation": work_generating.writings,
        "feature-extraction": work_tensors.embeddings,
    }
    return makers.get(session.bundle.manifest.task, work_tensors.tensors)(session, request)


def _scenario(request: Request, work: Workload) -> dict[str, object]:
    clock = SystemClock()
    warmed = warm_up(lambda: work.ask(0), clock.now)
    rules = request.rules_for(warmed.median_ns)
    before, ticks, throttles = machine(), cpu_times(), throttle_count()
    meter = Meter(ROOT, clock.now)
    meter.begin()
    queries = run(rules, work.ask, clock, _now_and_then(meter.sample, clock.now))
    energy = meter.end()
    after = machine(since=ticks)
    return {
        "figures": figures_of(queries, work),
        "rate": rules.rate,
        "warm_up": warmed._asdict(),
        "validity": asdict(judge(rules, queries, work.rows)),
        "before": before.to_dict(),
        "after": after.to_dict(),
        "throttled": throttle_count() - throttles,
        "energy": asdict(energy) if energy else None,
    }


def _shape(work: Workload) -> dict[str, object]:
    return {
        "what": work.what,
        "rows": work.rows,
        "read": work.read,
        "written": work.written,
        "seconds": work.seconds,
    }


def _now_and_then(call: Callable[[], None], now: Callable[[], int]) -> Callable[[], None]:
    """Call it at most ten times a second: reading counters takes time from short queries."""
    last = now()

    def between() -> None:
        nonlocal last
        if now() - last >= _SAMPLE_EVERY_NS:
            call()
            last = now()

    return between


def _only_for_the_result() -> int:
    """Engines print to stdout as they like: it is sent to stderr and kept for the result."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
