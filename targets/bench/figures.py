"""From queries to figures: latency, throughput, and what a generator's tokens took.

Where a name is one of llama-bench's it means the same: `samples_ns`, `avg_ns`, `stddev_ns` of whole
queries, `avg_ts` and `stddev_ts` in tokens a second, prompt and answer together for a query of both
(its `-pg`). `tests` has a row for the prompt (its pp) and one for the answer (tg).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .latencies import NS_PER_MS, NS_PER_S, percentile, summarise
from .scenarios import Query, duration_s
from .workload import Workload

MOST_SAMPLES = 1000
PERCENTILES = (50, 90, 95, 99)


def figures_of(queries: Sequence[Query], work: Workload) -> dict[str, Any]:
    """Return the figures of a run; times in ms unless their name says ns."""
    latencies = [each.latency for each in queries]
    served = summarise([each.ended - each.begun for each in queries])
    found = summarise(latencies)
    seconds = max(duration_s(list(queries)), 1e-9)
    samples = len(queries) * work.rows
    figures: dict[str, Any] = {
        "query_count": len(queries),
        "duration_s": seconds,
        **{f"latency_p{p}_ms": getattr(found, f"p{p}_ms") for p in PERCENTILES},
        "latency_min_ms": found.min_ms,
        "latency_max_ms": found.max_ms,
        "latency_mean_ms": found.mean_ms,
        "served_p50_ms": served.p50_ms,
        "served_iqr_ms": served.iqr_ms,
        "throughput_per_s": samples / seconds,
        **_sampled(latencies, work.rows * (work.read + work.written)),
    }
    if work.written:
        figures |= _written(queries, work, seconds)
    if work.seconds:
        figures["real_time_factor"] = served.p50_ms / 1e3 / work.seconds
    return figures


def _written(queries: Sequence[Query], work: Workload, seconds: float) -> dict[str, Any]:
    firsts = [(each.first or each.ended) - each.due for each in queries]
    reading = [(each.first or each.ended) - each.begun for each in queries]
    writing = [each.ended - (each.first or each.ended) for each in queries]
    steps = work.written - 1
    figures: dict[str, Any] = {
        **_spread("ttft", firsts),
        "tokens_per_s": work.written * work.rows * len(queries) / seconds,
        "tests": [],
    }
    if work.read:
        figures["tests"].append(_test(f"pp{work.read}", reading, work.rows, read=work.read))
        figures["prefill_ts"] = figures["tests"][-1]["avg_ts"]
    if steps:
        figures |= _spread("tpot", [each / steps for each in writing])
        figures["tests"].append(
            _test(f"tg{steps}", writing, work.rows, written=steps, depth=work.read + 1)
        )
        figures["decode_ts"] = figures["tests"][-1]["avg_ts"]
    return figures


def _test(
    name: str,
    durations: Sequence[int],
    rows: int,
    *,
    read: int = 0,
    written: int = 0,
    depth: int = 0,
) -> dict[str, Any]:
    sampled = _sampled(durations, rows * (read + written))
    return {"test": name, "n_prompt": read, "n_gen": written, "n_depth": depth, **sampled}


def _sampled(durations: Sequence[int], tokens: int) -> dict[str, Any]:
    rates = [tokens * NS_PER_S / max(each, 1) for each in durations] if tokens else []
    return {
        "avg_ns": round(statistics.fmean(durations)),
        "stddev_ns": round(_deviation(durations)),
        "avg_ts": statistics.fmean(rates) if rates else None,
        "stddev_ts": _deviation(rates) if rates else None,
        "samples_ns": thinned(durations),
        "samples_ts": thinned(rates),
    }


def _spread(name: str, durations: Sequence[float]) -> Mapping[str, float]:
    ordered = sorted(round(each) for each in durations)
    return {f"{name}_p{p}_ms": percentile(ordered, p) / NS_PER_MS for p in PERCENTILES}


def thinned(values: Sequence[Any]) -> list[Any]:
    """Return at most `MOST_SAMPLES` of the values, in their order and evenly from all of them."""
    step = max(1, math.ceil(len(values) / MOST_SAMPLES))
    return list(values[::step])


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
