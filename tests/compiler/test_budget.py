"""What `--budget` says and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_folder import write_model

from edgeward.compiler.budget import DEFAULT_CONTEXT, parse_budget
from edgeward.compiler.compile import CompileRequest, plan_bundles
from edgeward.compiler.jobs import Plan
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


def planned(folder: Path, precision: str = "auto", budget: str = "", **how: str) -> Plan:
    """The plan for a llama on an x86-64 processor."""
    if not folder.is_dir():
        write_model(folder, model_type="llama", architectures=["LlamaForCausalLM"])
    wanted = parse_budget([budget] if budget else [])
    request = CompileRequest(
        str(folder), ("x86-64-cpu",), folder.parent, (precision,), budget=wanted, **how
    )
    (plan,) = plan_bundles(request)[1]
    return plan


def test_a_budget_looks_into_every_format_of_the_target(tmp_path: Path) -> None:
    plan = planned(tmp_path / "llama", budget="kl=0.1")
    made = {(job.recipe.format, job.recipe.precision) for job in plan.jobs}
    assert {("gguf", "mixed"), ("onnx", "int4-weights"), ("onnx", "fp32")} <= made
    assert [job.recipe.precision for job in plan.jobs if job.recipe.format == "gguf"] == ["mixed"]
    only = planned(tmp_path / "llama", budget="kl=0.1", format="gguf")
    assert [job.recipe.precision for job in only.jobs] == ["mixed"]


def test_a_gguf_of_any_precision_has_the_targets_memory_as_its_budget(tmp_path: Path) -> None:
    plan = planned(tmp_path / "llama", format="gguf")
    assert plan.budget is not None
    assert plan.budget.memory_bytes == plan.jobs[0].profile.hardware.usable_memory_bytes
    assert plan.budget.divergence is not None


def test_a_budget_is_for_auto_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looked for"):
        planned(tmp_path / "llama", precision="fp32", budget="kl=0.1")
