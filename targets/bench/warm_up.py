"""Warming up until it is stable, within bounds.

The rule: calls go on until the median of the last five is within 5 % of the median of the five
before them, at least ten calls in all; at most fifty calls or ten seconds (at least one call).
What was not stable by then is measured all the same and the record says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

WINDOW = 5
TOLERANCE = 0.05
MOST_CALLS = 50
MOST_NS = 10_000_000_000


class WarmUp(NamedTuple):
    """How many calls it took, whether they ended stable, and the last window's median in ns."""

    calls: int
    stable: bool
    median_ns: float


def warm_up(
    call: Callable[[], object],
    now: Callable[[], int],
    *,
    most_calls: int = MOST_CALLS,
    most_ns: int = MOST_NS,
) -> WarmUp:
    """Call until the rule holds; `now` returns nanoseconds. What `call` raises comes through."""
    durations: list[int] = []
    start = now()
    while True:
        begun = now()
        call()
        durations.append(now() - begun)
        if is_stable(durations):
            return WarmUp(len(durations), True, statistics.median(durations[-WINDOW:]))
        if len(durations) >= most_calls or now() - start >= most_ns:
            return WarmUp(len(durations), False, statistics.median(durations[-WINDOW:]))


def is_stable(durations: Sequence[int]) -> bool:
    """Whether the last two windows have like medians."""
    if len(durations) < 2 * WINDOW:
        return False
    last = statistics.median(durations[-WINDOW:])
    before = statistics.median(durations[-2 * WINDOW : -WINDOW])
    return abs(last - before) <= TOLERANCE * before
