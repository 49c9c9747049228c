"""A record that another machine sent: each value is of the kind that its name says, or none is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from edgeward.errors import ProtocolError

MOST_NAMES, MOST_TEXT, MOST_ROWS = 256, 2000, 20
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_COUNTS = {"n_threads", "n_prompt", "n_gen", "n_depth", "batch", "cores", "model_size", "seed"}
_COUNTS |= {"record_version", "query_count", "warm_up_calls"}
_FLAGS = {"valid", "noisy", "mlperf_minimum_met", "warm_up_stable"}
_MACHINES = {"machine_before", "machine_after"}
# What may be below nothing: the error of a prediction, a temperature.
_SIGNED = re.compile(r".*_(error_percent|c)")
_FIGURES = re.compile(
    r".*_(ms|ns|s|ts|bytes|percent|qps|c|j|seconds|factor|count)|.*_per_(s|sample_j)"
)
NEEDED = frozenset(
    {
        *("record_version", "test_time", "scenario", "task", "bundle", "bundle_digest"),
        *("precision", "n_threads", "batch", "n_prompt", "n_gen", "samples_ns", "latency_p50_ms"),
        *("peak_memory_bytes", "iqr_percent", "valid", "noisy", "warnings"),
    }
)


def checked(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record, or raise ProtocolError for one that its readers would stumble over.

    Its `id` is not the store's and is left out.
    """
    found = {name: value for name, value in record.items() if name != "id"}
    if lacking := sorted(NEEDED - {name for name, value in found.items() if value is not None}):
        raise _none(f"it has no {', '.join(lacking)}")
    _check_names(found)
    return found


def _check_names(record: Mapping[str, Any]) -> None:
    if len(record) > MOST_NAMES:
        raise _none(f"it has {len(record)} names")
    for name, value in record.items():
        if not _NAME.fullmatch(name):
            raise _none(f"it has the name {name[:64]!a}")
        if not _kind_of(name)(value):
            raise _none(f"{name} is {str(value)[:60]!a}")


def _kind_of(name: str) -> Callable[[object], bool]:
    kinds: dict[str, Callable[[object], bool]] = {
        "warnings": lambda value: _is_rows(value, _is_text),
        "tests": lambda value: _is_rows(value, _is_test),
        "samples_ns": lambda value: isinstance(value, list) and all(map(_is_amount, value)),
        "samples_ts": lambda value: isinstance(value, list) and all(map(_is_amount, value)),
    }
    if name in kinds:
        return kinds[name]
    if name in _COUNTS:
        return _is_count
    if name in _FLAGS:
        return lambda value: isinstance(value, bool)
    if name in _MACHINES:
        return lambda value: isinstance(value, dict) and all(map(_is_plain, value.values()))
    if _SIGNED.fullmatch(name):
        return lambda value: value is None or _is_number(value)
    if _FIGURES.fullmatch(name):
        return lambda value: value is None or _is_amount(value)
    return _is_plain


def _is_test(value: object) -> bool:
    if not isinstance(value, dict) or not {"test", "samples_ns"} <= set(value) or "tests" in value:
        return False
    _check_names(value)
    return True


def _is_rows(value: object, is_row: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and len(value) <= MOST_ROWS and all(map(is_row, value))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**63


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value)


def _is_amount(value: object) -> bool:
    return _is_number(value) and isinstance(value, (int, float)) and value >= 0


def _is_finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) < 1e300


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MOST_TEXT


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool) or _is_text(value) or _is_number(value)


def _none(why: str) -> ProtocolError:
    return ProtocolError("What the device sent is no record", why=why)
