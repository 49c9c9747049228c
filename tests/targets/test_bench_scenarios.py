"""MLPerf's scenarios on a clock of our own: when queries come, how many, and what is valid."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.errors import UsageError
from edgeward.targets.bench.scenarios import (
    NS,
    OFFLINE,
    SCENARIOS,
    SERVER,
    SINGLE_STREAM,
    Ask,
    Query,
    Rules,
    SystemClock,
    arrivals,
    judge,
    mlperf_queries,
    run,
)
from edgeward.targets.bench.warm_up import MOST_CALLS, is_stable, warm_up

QUICK = settings(deadline=None, max_examples=50)


class Clock:
    """Time that passes when something takes it."""

    def __init__(self) -> None:
        self.moment = 1000

    def now(self) -> int:
        return self.moment

    def wait(self, nanoseconds: int) -> None:
        self.moment += nanoseconds


def asking(clock: Clock, milliseconds: float, numbers: list[int] | None = None) -> Ask:
    def ask(number: int) -> int | None:
        if numbers is not None:
            numbers.append(number)
        clock.moment += int(milliseconds * 1e6)
        return None

    return ask


def served(rules: Rules, milliseconds: float) -> list[Query]:
    clock = Clock()
    return run(rules, asking(clock, milliseconds), clock, lambda: None)


@pytest.mark.parametrize("scenario", [SINGLE_STREAM, OFFLINE])
@pytest.mark.parametrize(("queries", "seconds", "expected"), [(3, 0.05, 5), (8, 0.05, 8)])
def test_both_minima_are_kept(scenario: str, queries: int, seconds: float, expected: int) -> None:
    found = served(Rules(scenario, queries, seconds), 10)
    assert len(found) == expected
    assert all(b.begun >= a.ended for a, b in itertools.pairwise(found))
    assert judge(Rules(scenario, queries, seconds), found).valid


def test_queries_are_numbered_and_what_is_between_them_is_not_timed() -> None:
    clock, numbers = Clock(), []
    queries = run(
        Rules(least_queries=4, least_seconds=0), asking(clock, 5, numbers), clock,
        lambda: clock.wait(777),
    )  # fmt: skip
    assert numbers == [0, 1, 2, 3]
    assert {each.latency for each in queries} == {5_000_000}


@QUICK
@given(st.floats(0.5, 5000), st.integers(0, 2**32))
def test_arrivals_are_a_poisson_process(rate: float, seed: int) -> None:
    count = 2000
    moments = list(itertools.islice(arrivals(rate, seed), count))
    gaps = [(b - a) / NS for a, b in itertools.pairwise([0, *moments])]
    mean = sum(gaps) / count
    variance = sum((gap - mean) ** 2 for gap in gaps) / count
    # exponential: the mean is 1/rate, the deviation equals the mean, a share 1/e is longer than it
    assert mean * rate == pytest.approx(1, abs=5 / math.sqrt(count))
    assert math.sqrt(variance) / mean == pytest.approx(1, abs=0.2)
    longer = sum(gap > mean for gap in gaps) / count
    assert longer == pytest.approx(math.exp(-1), abs=0.06)
    assert moments == list(itertools.islice(arrivals(rate, seed), count))


def test_another_seed_gives_other_arrivals() -> None:
    first, second = (list(itertools.islice(arrivals(10, seed), 5)) for seed in (1, 2))
    assert first != second


def test_a_server_that_keeps_up_has_no_waiting_and_one_that_does_not_has() -> None:
    rules = Rules(SERVER, 200, 1.0, rate=10.0)
    quick, slow = served(rules, 0.001), served(rules, 500)
    assert [each.due for each in quick] == [each.due for each in slow]
    assert all(each.latency < 2_000_000 for each in quick)
    waited = [each.begun - each.due for each in slow]
    assert waited[-1] > 50 * NS
    assert [each.latency for each in slow] == [each.ended - each.due for each in slow]
    assert slow[-1].latency > waited[-1]
    assert all(b.begun >= a.ended for a, b in itertools.pairwise(slow))


def test_a_server_asks_at_its_moments() -> None:
    rules = Rules(SERVER, 50, 1.0, rate=20.0, seed=4)
    queries = served(rules, 0.001)
    wanted = list(itertools.islice(arrivals(20.0, 4), len(queries)))
    assert [each.due - 1000 for each in queries] == wanted
    assert judge(rules, queries).valid


def test_a_bound_on_the_tail_makes_a_server_run_invalid() -> None:
    rules = Rules(SERVER, 50, 0.0, rate=1.0, bound_ms=5)
    assert judge(rules, served(rules, 1)).valid
    verdict = judge(rules, served(rules, 50))
    assert not verdict.valid
    assert "p99" in verdict.why


def test_too_few_or_too_short_is_invalid() -> None:
    rules = Rules(least_queries=5, least_seconds=1.0)
    queries = [Query(0, 0, None, NS // 10)] * 3
    verdict = judge(rules, queries)
    assert not verdict.valid
    assert "3 queries of 5" in verdict.why
    assert "0.1 s of 1" in verdict.why


def test_the_least_queries_are_those_of_mlperf() -> None:
    found = {scenario: mlperf_queries(scenario) for scenario in SCENARIOS}
    assert found == {SINGLE_STREAM: 24_576, OFFLINE: 24_576, SERVER: 270_336}


def test_mlperfs_own_minimum_needs_queries_and_time() -> None:
    rules = Rules(least_queries=1, least_seconds=0)
    long = [Query(0, 0, None, 601 * NS)]
    assert not judge(rules, long).mlperf_minimum_met
    assert judge(rules, long * 24_576).mlperf_minimum_met
    assert not judge(rules, [Query(0, 0, None, 599 * NS)] * 24_576).mlperf_minimum_met
    offline = Rules(OFFLINE, 1, 0)
    assert judge(offline, long * 3072, samples_a_query=8).mlperf_minimum_met


@pytest.mark.parametrize(
    "settings",
    [
        {"scenario": "Multistream"},
        {"least_queries": 0},
        {"least_seconds": -1},
        {"least_seconds": math.nan},
        {"rate": 0.0},
        {"rate": math.inf},
        {"bound_ms": -1.0},
    ],
)
def test_rules_that_cannot_be_kept_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Rules(**settings)  # type: ignore[arg-type]


def test_a_server_without_a_rate_is_refused() -> None:
    with pytest.raises(UsageError, match="rate"):
        served(Rules(SERVER), 1)


def test_the_systems_clock_waits_at_least_as_long_as_asked() -> None:
    clock = SystemClock()
    begun = clock.now()
    clock.wait(3_000_000)
    assert clock.now() - begun >= 3_000_000


def test_warm_up_ends_when_it_is_stable() -> None:
    durations = iter([100, 90, 80, 70, 60, *[50] * 100])
    clock = Clock()
    warmed = warm_up(lambda: clock.wait(next(durations)), clock.now)
    assert warmed.stable
    assert warmed.calls == 13
    assert warmed.median_ns == 50


def test_warm_up_is_bounded_in_calls_and_time() -> None:
    clock, grows = Clock(), itertools.count(1)
    warmed = warm_up(lambda: clock.wait(int(1.3 ** next(grows) * 10)), clock.now)
    assert (warmed.calls, warmed.stable) == (MOST_CALLS, False)
    slow = Clock()
    assert warm_up(lambda: slow.wait(20 * NS), slow.now) == (1, False, 20 * NS)


@QUICK
@given(st.lists(st.integers(1, 10**9), max_size=9))
def test_fewer_than_ten_calls_are_never_stable(durations: list[int]) -> None:
    assert not is_stable(durations)
