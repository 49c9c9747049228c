"""Mixed types: who may be of which, and that the file loses less than one of a single rule."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proved_job import job as described_job

from edgeward.compiler.compile import CompileRequest, compile_model
from edgeward.compiler.formats import gguf
from edgeward.compiler.formats.gguf_mixed import (
    CANDIDATES,
    FAST,
    candidates,
    check_mixed,
    made_fast,
    mixed_types,
    offers_of,
    patterns,
    read_size,
)
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.stages import StageRunner
from edgeward.errors import DoesNotFitError, UnsupportedError, UsageError
from edgeward.runtimes.bundle.gguf_header import read_header

names = st.one_of(
    st.builds(
        "blk.{}.{}.weight".format,
        st.integers(0, 120),
        st.sampled_from(["attn_q", "attn_k", "ffn_up", "ffn_up_exps"]),
    ),
    st.sampled_from(["output.weight", "token_embd.weight"]),
)


@given(st.dictionaries(names, st.sampled_from(["q4_0", "q8_0", "iq4_nl"]), max_size=60))
def test_each_tensor_meets_the_pattern_of_its_own_type_alone(types: dict[str, str]) -> None:
    made = patterns(types)
    for name, kind in types.items():
        assert [given for pattern, given in made if re.search(pattern, name)] == [kind]


def test_sizes_are_read_with_and_without_a_space() -> None:
    assert read_size("90MB") == read_size("90 MB") == 90_000_000
    assert read_size("1.5GiB") == 3 << 29
    with pytest.raises(UsageError, match="is no size"):
        read_size("much")


def test_types_are_those_that_are_known() -> None:
    plain = described_job()
    mixed_job = replace(
        plain,
        recipe=recipe_for("gguf", "mixed"),
        source=replace(plain.source, task="text-generation"),
    )
    assert candidates(mixed_job) == CANDIDATES
    assert candidates(made_fast(mixed_job)) == FAST
    assert candidates(replace(mixed_job, options={"types": ("q4_k, Q8_0",)})) == ("q4_k", "q8_0")
    for wrong in ("q9_9", ",", "fast,q4_0"):
        with pytest.raises(UsageError, match="no type that mixed chooses among"):
            candidates(replace(mixed_job, options={"types": (wrong,)}))
    other = replace(mixed_job, recipe=recipe_for("gguf", "q4_0"), options={"types": ("q8_0",)})
    with pytest.raises(UsageError, match="takes no --types"):
        check_mixed(other)


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestReal:
    """On tiny random models, in llama.cpp."""

    def test_every_weight_that_is_multiplied_has_its_cost(
        self, runner: StageRunner, models: dict[str, Path], job_of: Any
    ) -> None:
        for name in ("wide", "qwen3_moe"):
            job = job_of(models[name], "mixed")
            prepared = gguf.prepare(job, runner)
            offers = prepared.rates.data["offers"]
            header = read_header(prepared.model.path)
            multiplied = {
                tensor.name
                for tensor in header.tensors
                if len(tensor.shape) > 1 and "norm" not in tensor.name and "inp" not in tensor.name
            }
            assert set(offers) >= multiplied - {"token_embd.weight"}
            costs = [cost for each in offers.values() for _, _, cost in each]
            assert all(cost >= 0 for cost in costs)
            assert max(costs) > 0

    def test_a_mixed_file_loses_less_than_a_preset_of_its_size(
        self, runner: StageRunner, models: dict[str, Path], job_of: Any, tmp_path: Path
    ) -> None:
        plain = self.compiled(runner, models["wide"], tmp_path, "q4_0")
        size = plain.manifest.files
        entry = next(one.size for one in size if one.path == plain.manifest.entry)
        mixed = self.compiled(
            runner, models["wide"], tmp_path, "mixed", options={"size": (f"{entry} B",)}
        )
        listed = {one.path: one.size for one in mixed.manifest.files}
        assert listed[mixed.manifest.entry] <= entry
        lost = [one.manifest.proof.figures["eval_kl_mean"] for one in (plain, mixed)]
        assert lost[1] < lost[0]
        with pytest.raises(UsageError, match="No GGUF file of this model"):
            job = job_of(models["wide"], "mixed", size=("1 kB",))
            mixed_types(job, gguf.prepare(job, runner).rates.data)

    def test_types_are_chosen_among_those_that_were_named(
        self, runner: StageRunner, models: dict[str, Path], job_of: Any, tmp_path: Path
    ) -> None:
        mixed = self.compiled(
            runner, models["wide"], tmp_path, "mixed", options={"types": ("Q4_0,q8_0",)}
        )
        header = read_header(mixed.path / mixed.manifest.entry)
        found = {tensor.type_name for tensor in header.tensors if len(tensor.shape) > 1}
        assert {"Q4_0", "Q8_0"} <= found <= {"Q4_0", "Q8_0", "F32", "F16"}
        job = job_of(models["wide"], "mixed", types=("fast",))
        offers, _ = offers_of(job, gguf.prepare(job, runner).rates.data)
        kinds = {offer.type for each in offers.values() for offer in each}
        assert kinds == set(FAST)

    def test_a_budget_is_kept_or_refused(
        self, runner: StageRunner, models: dict[str, Path], tmp_path: Path
    ) -> None:
        from edgeward.compiler.budget import parse_budget

        budget, timed = (
            parse_budget([f"memory=200MiB,kl=0.2{more}"], 64) for more in ("", ",tpot=60000")
        )
        found = self.compiled(runner, models["wide"], tmp_path, "auto", budget=budget)
        assert found.manifest.recipe.precision == "mixed"
        assert found.manifest.proof.figures["eval_kl_mean"] <= 0.2
        assert any(tried.passed for tried in found.manifest.search)
        assert all("MB" in tried.reason for tried in found.manifest.search)
        found = self.compiled(runner, models["wide"], tmp_path / "timed", "auto", budget=timed)
        tried = {one.precision for one in found.manifest.search}
        assert {"gguf mixed", "gguf mixed (fast)"} <= tried
        with pytest.raises(DoesNotFitError, match="Nothing keeps the budget"):
            self.compiled(
                runner,
                models["wide"],
                tmp_path,
                "auto",
                budget=replace(budget, memory_bytes=1 << 20),
            )

    def test_models_that_write_nothing_are_refused(
        self, models: dict[str, Path], job_of: Any
    ) -> None:
        with pytest.raises(UnsupportedError, match="write texts"):
            job_of(models["bert"], "mixed")

    @staticmethod
    def compiled(runner: StageRunner, model: Path, output: Path, precision: str, **how: Any) -> Any:
        request = CompileRequest(
            str(model),
            ("x86-64-cpu",),
            output,
            (precision,),
            format="gguf",
            accept_degraded=True,
            **how,
        )
        (one,) = compile_model(request, runner=runner)
        return one.bundle
