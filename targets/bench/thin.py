"""A record made small enough for a message: fewer samples, the figures as they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgeward.errors import EdgewardError

_SAMPLES = ("samples_ns", "samples_ts")


def fitted(record: Mapping[str, Any], most_bytes: int) -> dict[str, Any]:
    """Return a record whose JSON has at most so many bytes: its samples thinned evenly.

    What was computed of all samples stays. Raises EdgewardError where it is too large without.
    """
    step = 1
    found = dict(record)
    while _size(found) > most_bytes:
        step *= 2
        if step > 2 * _most_samples(record):
            raise EdgewardError(
                "The record is too large for a message", why=f"{_size(found)} of {most_bytes} bytes"
            )
        found = _thinned(record, step)
    return found


def _thinned(record: Mapping[str, Any], step: int) -> dict[str, Any]:
    thin = {
        name: list(value[::step]) if name in _SAMPLES else value for name, value in record.items()
    }
    if "tests" in thin:
        thin["tests"] = [_thinned(test, step) for test in thin["tests"]]
    return thin


def _most_samples(record: Mapping[str, Any]) -> int:
    own = [len(record[name]) for name in _SAMPLES if name in record]
    return max([0, *own, *(_most_samples(test) for test in record.get("tests", ()))])


def _size(record: Mapping[str, Any]) -> int:
    return len(json.dumps(record).encode())
