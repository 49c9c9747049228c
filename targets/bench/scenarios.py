"""MLPerf's scenarios: when a query is asked, how many there have to be, and what counts.

Terms and rules are those of MLPerf Inference (Reddi et al. 2020, arXiv:1911.02549, and
mlcommons/inference_policies): SingleStream asks one query behind the other and is judged by p90;
Offline has all samples at once and is judged by samples a second; Server asks at the moments of a
Poisson process and has to keep p99 within a bound. Early stopping is not used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from edgeward.errors import UsageError

from .latencies import percentile

SINGLE_STREAM, OFFLINE, SERVER = "SingleStream", "Offline", "Server"
SCENARIOS = (SINGLE_STREAM, OFFLINE, SERVER)
# The percentile that a scenario is judged by; Offline by its throughput.
TAIL = {SINGLE_STREAM: 90, SERVER: 99}
MLPERF_SECONDS = 600.0
MLPERF_OFFLINE_SAMPLES = 24_576
_STEP = 2**13
_NORMAL_99 = 2.5758293035489004
_MOST_QUERIES = 10_000_000
NS = 1_000_000_000


class Query(NamedTuple):
    """One query in nanoseconds: when it was due, begun, had its first token (if any), ended."""

    due: int
    begun: int
    first: int | None
    ended: int

    @property
    def latency(self) -> int:
        """From the moment it was due, so that waiting counts."""
        return self.ended - self.due


class Clock(Protocol):
    """Where time comes from; a test has its own."""

    def now(self) -> int:
        """Return nanoseconds that only grow."""

    def wait(self, nanoseconds: int) -> None:
        """Let time pass."""


class SystemClock:
    """The machine's own."""

    def now(self) -> int:
        """Return the performance counter."""
        return time.perf_counter_ns()

    def wait(self, nanoseconds: int) -> None:
        """Sleep, and spin through the last half millisecond: a sleep ends late."""
        until = self.now() + nanoseconds
        if nanoseconds > 1_000_000:
            time.sleep((nanoseconds - 500_000) / NS)
        while self.now() < until:
            pass


@dataclass(frozen=True, slots=True)
class Rules:
    """How long a scenario runs at least, in queries and in seconds.

    `rate` is the Server's queries a second, `bound_ms` what its p99 has to keep, where one is told.
    """

    scenario: str = SINGLE_STREAM
    least_queries: int = 16
    least_seconds: float = 3.0
    rate: float | None = None
    bound_ms: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError where a rule cannot be kept."""
        if self.scenario not in SCENARIOS:
            raise UsageError(
                f"There is no scenario {self.scenario[:40]!a}", why=f"known: {', '.join(SCENARIOS)}"
            )
        if not 1 <= self.least_queries <= _MOST_QUERIES:
            raise UsageError(f"A run has 1 to {_MOST_QUERIES} queries at least")
        if not 0 <= self.least_seconds <= 86_400:
            raise UsageError("A run takes at least 0 to 86400 seconds")
        if self.rate is not None and not 0 < self.rate <= 1e6:
            raise UsageError("A rate is more than 0 queries a second and at most a million")
        if self.bound_ms is not None and not 0 < self.bound_ms <= 1e9:
            raise UsageError("A bound of latency is a number of milliseconds above 0")


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether a run kept its rules, and whether it was as long as MLPerf's own asks."""

    valid: bool
    why: str
    mlperf_minimum_met: bool


Ask = Callable[[int], "int | None"]


def run(rules: Rules, ask: Ask, clock: Clock, between: Callable[[], None]) -> list[Query]:
    """Ask query after query as the scenario says, until both minima are kept.

    `ask` is given the query's number and returns the moment of its first token, or None;
    `between` is called where no query runs. Whatever they raise comes through.
    """
    if rules.scenario == SERVER:
        return _served(rules, ask, clock, between)
    queries: list[Query] = []
    start = clock.now()
    while len(queries) < rules.least_queries or _seconds(clock, start) < rules.least_seconds:
        begun = clock.now()
        first = ask(len(queries))
        queries.append(Query(begun, begun, first, clock.now()))
        between()
    return queries


def arrivals(rate: float, seed: int) -> Iterator[int]:
    """Give the moments of a Poisson process in nanoseconds from its begin, without an end.

    Gaps are exponential with a mean of 1/rate seconds; the same seed gives the same moments.
    """
    drawn, moment = np.random.default_rng(seed), 0.0
    while True:
        moment += float(drawn.exponential(1 / rate))
        yield int(moment * NS)


def judge(rules: Rules, queries: list[Query], samples_a_query: int = 1) -> Validity:
    """Say whether the rules were kept."""
    seconds = duration_s(queries)
    wrong = []
    if len(queries) < rules.least_queries:
        wrong.append(f"{len(queries)} queries of {rules.least_queries}")
    if seconds < rules.least_seconds:
        wrong.append(f"{seconds:.3g} s of {rules.least_seconds:g}")
    if rules.scenario == SERVER and rules.bound_ms is not None:
        tail = tail_ms(queries, TAIL[SERVER])
        if tail > rules.bound_ms:
            wrong.append(f"p99 {tail:.4g} ms is above {rules.bound_ms:g}")
    enough = len(queries) * samples_a_query >= mlperf_queries(rules.scenario)
    return Validity(
        valid=not wrong,
        why="; ".join(wrong),
        mlperf_minimum_met=not wrong and enough and seconds >= MLPERF_SECONDS,
    )


def mlperf_queries(scenario: str) -> int:
    """Return the least queries (Offline: samples) that MLPerf asks for without early stopping.

    So many that the percentile is known within a twentieth of its distance to 100 % at 99 %
    confidence, rounded up to a multiple of 2^13: 24576 for p90, 270336 for p99.
    """
    if scenario == OFFLINE:
        return MLPERF_OFFLINE_SAMPLES
    share = TAIL[scenario] / 100
    margin = (1 - share) / 20
    needed = _NORMAL_99**2 * share * (1 - share) / margin**2
    return math.ceil(needed / _STEP) * _STEP


def duration_s(queries: list[Query]) -> float:
    """Return the seconds from the first query's moment to the last one's end."""
    if not queries:
        return 0.0
    return (max(each.ended for each in queries) - queries[0].due) / NS


def tail_ms(queries: list[Query], percent: int) -> float:
    """Return a percentile of the latencies in ms, by nearest rank."""
    return percentile(sorted(each.latency for each in queries), percent) / 1e6


def _served(rules: Rules, ask: Ask, clock: Clock, between: Callable[[], None]) -> list[Query]:
    """One after the other in the order of arrival; what comes while one runs waits for it."""
    if rules.rate is None:
        raise UsageError("The scenario Server needs a rate", next="--qps RATE")
    queries: list[Query] = []
    start = clock.now()
    # The minima are of the arrivals: a machine that falls behind still ends.
    for number, moment in enumerate(islice(arrivals(rules.rate, rules.seed), _MOST_QUERIES)):
        due = start + moment
        if clock.now() < due:
            between()
            clock.wait(max(due - clock.now(), 0))
        begun = clock.now()
        first = ask(number)
        queries.append(Query(due, begun, first, clock.now()))
        lasted = due - queries[0].due
        if len(queries) >= rules.least_queries and lasted >= rules.least_seconds * NS:
            break
    return queries


def _seconds(clock: Clock, start: int) -> float:
    return (clock.now() - start) / NS
