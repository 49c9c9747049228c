"""What `--budget` says and refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.budget import DEFAULT_CONTEXT, parse_budget
from edgeward.errors import UsageError


def test_sizes_and_figures_are_read() -> None:
    budget = parse_budget(["memory=4GiB,kl=0.05", "size=1.5 GB, tpot=20ms"], 8192)
    assert budget is not None
    assert (budget.memory_bytes, budget.size_bytes) == (4 << 30, 1_500_000_000)
    assert {limit.name: limit.bound for limit in budget.limits} == {"kl": 0.05, "tpot": 20.0}
    assert (budget.divergence, budget.context) == (0.05, 8192)


def test_nothing_given_is_no_budget() -> None:
    assert parse_budget([]) is None
    assert parse_budget(["kl=1"]).context == DEFAULT_CONTEXT  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text", ["memory", "memory=4", "memory=-4GiB", "memory=4GiBs", "kl=", "kl=nan", "speed=3", "="]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_budget([text])


def test_a_limit_is_kept_or_missed_from_its_own_side() -> None:
    budget = parse_budget(["kl=0.05,top1=0.9"])
    assert budget is not None
    assert budget.missed({"eval_kl_mean": 0.05, "eval_top1_agreement": 0.9}) == []
    missed = budget.missed({"eval_kl_mean": 0.06, "eval_top1_agreement": 0.89})
    assert [check.metric for check in missed] == ["eval_kl_mean", "eval_top1_agreement"]


def test_a_figure_that_was_not_measured_misses_its_limit() -> None:
    budget = parse_budget(["ttft=5"])
    assert budget is not None
    assert len(budget.missed({})) == 1


@given(st.text(max_size=30))
def test_any_text_is_a_budget_or_a_usage_error(text: str) -> None:
    try:
        parse_budget([text])
    except UsageError:
        return
