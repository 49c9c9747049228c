"""How often a request is timed: often, but a slow one only as often as the time allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.measured import calls_of


@given(st.floats(0, 1e4))
def test_a_quarter_of_a_minute_is_enough_but_for_the_fewest(seconds: float) -> None:
    warmup, repetitions = calls_of(seconds)
    assert 5 <= repetitions <= 50
    assert 1 <= warmup <= 5
    assert repetitions == 5 or repetitions * seconds <= 15


@pytest.mark.parametrize(("seconds", "calls"), [(0.01, (5, 50)), (1.0, (2, 15)), (60.0, (1, 5))])
def test_slow_requests_are_timed_less_often(seconds: float, calls: tuple[int, int]) -> None:
    assert calls_of(seconds) == calls
