"""Two kept measurements side by side: figure by figure, and what makes them no fair pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeward.errors import UsageError

from .ratio import LEAST_ROUNDS, apart_ratio

Record = Mapping[str, Any]
COLUMNS = ("figure", "a", "b", "ratio", "low", "high")
# Figures of which less is better, then those of which more is.
_FIGURES = (
    *("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "ttft_p50_ms", "tpot_p50_ms"),
    "real_time_factor",
    *("load_ms", "first_ms", "peak_memory_bytes", "energy_per_sample_j"),
    *("throughput_per_s", "prefill_ts", "decode_ts"),
)
_SAME = (
    *("task", "scenario", "n_threads", "batch", "n_prompt", "n_gen", "cpu_info", "power_mode"),
    *("target_qps", "sound_seconds"),
)


def compare_rows(a: Record, b: Record, seed: int = 0) -> list[dict[str, object]]:
    """Return a row a figure that both have; the latency's ratio has a 95 % interval.

    Raises UsageError where they are no two measurements of bundles.
    """
    for each in (a, b):
        if "samples_ns" not in each:
            raise UsageError(
                f"Record {each.get('id')} is a comparison itself", next="edgeward bench list"
            )
    rows = []
    for name in _FIGURES:
        one, other = a.get(name), b.get(name)
        if one is None or other is None:
            continue
        row = {"figure": name, "a": one, "b": other, "ratio": other / one if one else None}
        rows.append({**row, **(_interval(a, b, seed) if name == "latency_p50_ms" else {})})
    return rows


def unfair(a: Record, b: Record) -> Iterator[str]:
    """Give what differs between them beside the bundle, and what disturbed them."""
    for name in _SAME:
        if a.get(name) != b.get(name):
            yield f"{name}: {a.get(name)} and {b.get(name)}"
    for each in (a, b):
        if each.get("noisy"):
            yield f"record {each.get('id')} is noisy: {'; '.join(each.get('warnings', ()))}"


def _interval(a: Record, b: Record, seed: int) -> dict[str, object]:
    first, second = a["samples_ns"], b["samples_ns"]
    if min(len(first), len(second)) < LEAST_ROUNDS or min(*first, *second) <= 0:
        return {}
    ratio = apart_ratio(first, second, seed=seed)
    return {"low": ratio.low, "high": ratio.high}
