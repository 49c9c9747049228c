"""Recipes and their bounds, the stages that a job is made of, names, the texts of a proof."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proved_job import PERFECT, RecordedStages, job

from edgeward.compiler.formats import onnx
from edgeward.compiler.formats.base import Job
from edgeward.compiler.formats.registry import FORMATS, format_module
from edgeward.compiler.given_data import TEXTS, GivenData
from edgeward.compiler.package import bundle_name
from edgeward.compiler.recipe import RECIPES, recipe_for
from edgeward.compiler.request import CompileRequest, model_name
from edgeward.compiler.stage import StageSpec, stage_key
from edgeward.compiler.tasks import TASKS
from edgeward.compiler.texts import LEAST_TEXTS, ProofTexts, proof_texts, read_texts
from edgeward.compiler.tolerance import Bound, Tolerances
from edgeward.compiler.tolerances import tolerances_for
from edgeward.errors import UnsupportedError, UsageError
from edgeward.targets.load import load, names

FIGURE = st.floats(-1e6, 1e6)
ENTRIES = sorted(RECIPES)
CASES = [
    (form, precision, task)
    for form, precision in ENTRIES
    for task in sorted(TASKS)
    if format_module(form).coverage().known(task)
]
WITH_FLOATS = [case for case in CASES if (case[0], "fp32") in RECIPES]
TARGETS = [name for name in names() if "onnx" in load(name).formats]


def test_each_recipe_stands_under_its_own_name() -> None:
    for (form, precision), recipe in RECIPES.items():
        assert (recipe.format, recipe.precision) == (form, precision)
        assert precision in format_module(form).precisions()
    assert {form for form, _ in RECIPES} == set(FORMATS)


@pytest.mark.parametrize(("form", "precision", "task"), CASES)
def test_a_proof_measures_everything_that_is_bounded(form: str, precision: str, task: str) -> None:
    table = format_module(form).tolerances()
    tolerances = tolerances_for(recipe_for(form, precision).precision, TASKS[task], table)
    bounds = (*tolerances.golden, *tolerances.compile_only)
    assert {bound.metric for bound in bounds} <= set(PERFECT)
    assert all(bound.check(PERFECT[bound.metric]).passed for bound in bounds)
    measured = {"kl_mean"} if TASKS[task].generates else {"cosine_min", "cosine_mean"}
    assert measured <= {bound.metric for bound in tolerances.golden}
    tokenised = "token_ids_equal" in {bound.metric for bound in tolerances.golden}
    assert tokenised == (TASKS[task].modality in ("text", "text-pair"))


@given(value=FIGURE, bound=FIGURE)
def test_a_figure_passes_on_its_side_of_the_bound_alone(value: float, bound: float) -> None:
    least = Bound("m", bound).check(value)
    most = Bound("m", bound, "at-most").check(value)
    assert (least.passed, most.passed) == (value >= bound, value <= bound)
    assert (least.value, least.bound, least.metric) == (value, bound, "m")


@given(st.sampled_from(WITH_FLOATS), st.floats(0, 0.499))
def test_a_looser_precision_allows_no_less(case: tuple[str, str, str], cosine: float) -> None:
    form, wanted, task = case

    def golden(precision: str) -> Tolerances:
        return tolerances_for(precision, TASKS[task], format_module(form).tolerances())

    exact = {bound.metric: bound for bound in golden("fp32").golden}
    for bound in golden(wanted).golden:
        looser = (bound.bound - exact[bound.metric].bound) * (
            1 if bound.direction == "at-most" else -1
        )
        assert looser >= 0
        if bound.metric == "cosine_min":
            assert not bound.check(cosine).passed


@pytest.mark.parametrize(("form", "precision"), [("onnx", "int3"), ("gif", "fp32"), ("", "")])
def test_an_unknown_recipe_names_those_that_are(form: str, precision: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_for(form, precision)
    assert ("fp32, fp16, bf16, int8-dynamic" if form == "onnx" else "no format") in caught.value.why


def stages(tmp_path: Path, **settings: str) -> list[StageSpec]:
    recorded = RecordedStages(tmp_path / "-".join(settings.values()))
    onnx.build(job(**settings), recorded)
    return recorded.specs


def test_precisions_and_targets_share_one_export(tmp_path: Path) -> None:
    plain = stages(tmp_path, precision="fp32")
    quantised = stages(tmp_path, precision="int8-dynamic")
    jetson = stages(tmp_path, precision="fp32", target="jetson-orin-nano")
    assert [spec.name for spec in plain] == ["export", "optimise"]
    assert [spec.name for spec in quantised] == ["export", "optimise", "quantise"]
    assert plain[1].params == quantised[1].params
    assert plain[1].params != jetson[1].params
    keys = {stage_key(specs[0], "t") for specs in (plain, quantised, jetson)}
    assert len(keys) == 1
    other = stages(tmp_path, precision="fp32", digest="another")
    assert stage_key(other[0], "t") not in keys


def test_each_stage_reads_the_one_before(tmp_path: Path) -> None:
    _, optimise, quantise = stages(tmp_path, precision="int8-dynamic")
    assert optimise.inputs["model"].path.name == "1-export"
    assert quantise.call.endswith(":quantise")
    assert quantise.inputs["model"].path.name == "2-optimise"


def test_four_bits_are_rounded_on_samples_where_there_are_any(tmp_path: Path) -> None:
    names = ["export", "optimise", "calibrate", "quantise"]
    rounded = stages(tmp_path, precision="int4-weights")
    assert [spec.name for spec in rounded] == names
    assert set(rounded[3].inputs) == {"model", "samples"}
    assert [spec.name for spec in stages(tmp_path, precision="int4-mixed")] == names
    assert "calibrate" not in [spec.name for spec in stages(tmp_path, precision="int8-weights")]


@pytest.mark.parametrize(
    "task", [name for name, spec in TASKS.items() if spec.generates and name != "text-generation"]
)
def test_an_encoder_with_a_decoder_is_not_calibrated(tmp_path: Path, task: str) -> None:
    def writer(precision: str) -> Job:
        made = job(precision=precision)
        return replace(made, source=replace(made.source, task=task))

    recorded = RecordedStages(tmp_path)
    onnx.build(writer("int4-weights"), recorded)
    assert "calibrate" not in [spec.name for spec in recorded.specs]
    for precision in ("int4-mixed", "int8-mixed", "int8-static"):
        with pytest.raises(UnsupportedError, match="encoder with a decoder"):
            onnx.build(writer(precision), RecordedStages(tmp_path / precision))


def test_what_bf16_computes_in_is_recorded(tmp_path: Path) -> None:
    stored, half = (
        onnx.build(job(precision=precision), RecordedStages(tmp_path / precision))
        for precision in ("bf16", "fp16")
    )
    assert stored.options["compute"] == "float32"
    assert "compute" not in half.options


def test_every_rounded_precision_has_a_processor_on_each_target() -> None:
    """What no other provider has kernels for is kept off it."""
    for target in TARGETS:
        profile = load(target)
        engine = next(one for one in profile.engines if one.name == "onnxruntime")
        rounded = {"int8-mixed", "int8-weights", "int4-mixed", "int4-weights"}
        for precision in rounded.intersection(profile.formats["onnx"]):
            assert tuple(engine.providers_for(precision)) == ("CPUExecutionProvider",)


def test_attention_is_fused_for_the_processor_alone(tmp_path: Path) -> None:
    fused = stages(tmp_path, precision="fp32")[1].params
    assert fused == {"rows": True, "sums": True, "fuse": True}
    assert not stages(tmp_path, precision="fp16")[1].params["fuse"]
    assert not stages(tmp_path, precision="int8-static")[1].params["rows"]
    elsewhere = stages(tmp_path, precision="fp16", target="jetson-orin-nano")[1].params
    assert elsewhere == {"rows": True, "sums": False, "fuse": False}
    recorded = RecordedStages(tmp_path / "portable")
    onnx.build(replace(job(), portable=True), recorded)
    assert not recorded.specs[1].params["fuse"]


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_is_proved_in_an_engine_that_it_may_have(tmp_path: Path, target: str) -> None:
    profile = load(target)
    made = job(target, (profile.otherwise or profile.default).precision)
    artifact = onnx.build(made, RecordedStages(tmp_path))
    engine = next(engine for engine in made.profile.engines if engine.name == onnx.ENGINE)
    assert engine.allows(onnx.ENGINE_TOOLCHAINS[artifact.engine_toolchain])
    options = onnx.engine_options(made)
    assert int(options["opset"]) <= (made.profile.limits.opset_max or onnx.OPSET)
    assert "CPUExecutionProvider" in str(options["providers"])


def test_a_target_without_the_engine_is_told(tmp_path: Path) -> None:
    made = job()
    other = replace(made, profile=replace(made.profile, engines=()))
    with pytest.raises(UnsupportedError, match="runs no ONNX"):
        onnx.build(other, RecordedStages(tmp_path))


def request(name: str | None) -> CompileRequest:
    return CompileRequest(model="m", targets=(), output=Path("build"), name=name)


@given(st.text(max_size=120))
def test_any_name_is_one_folder_or_refused(name: str) -> None:
    made = job()
    try:
        folder = bundle_name(model_name(request(name or "."), made.source), made)
    except UsageError as error:
        assert "--name" in error.next
        return
    assert Path(folder).name == folder
    assert not folder.startswith((".", "-"))
    assert folder.isascii()
    assert folder == f"{name}-kiosk-x86-fp32"


def test_a_bundle_is_named_after_its_model() -> None:
    assert model_name(request(None), job().source) == "tiny"


def test_the_packaged_texts_are_hard_and_many() -> None:
    texts = proof_texts()
    assert "" in texts.golden.values()
    assert any(not text.isascii() for text in texts.golden.values())
    assert any(text.endswith("...") for text in texts.golden.values())
    assert len(set(texts.evaluation)) == len(texts.evaluation) > 50


def texts_of(file: Path) -> ProofTexts:
    return proof_texts(GivenData(TEXTS, texts=read_texts(file)))


LINES = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20), max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, end=st.sampled_from(["\n", "\r\n"]))
def test_json_lines_come_back_as_they_were(tmp_path: Path, lines: list[str], end: str) -> None:
    file = tmp_path / "texts.jsonl"
    written = [json.dumps({"text": line}, ensure_ascii=False) + end for line in lines]
    file.write_text("".join(written), encoding="utf-8", newline="")
    if len(set(lines)) < LEAST_TEXTS:
        with pytest.raises(UsageError, match="different texts"):
            texts_of(file)
        return
    assert texts_of(file).evaluation == tuple(lines)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60) | st.just(b'a\nb\nc\n{"text": "\\ud800"}') | st.just(b'{"a":' * 100_000)
)
def test_any_file_is_texts_or_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "texts"
    file.write_bytes(data)
    try:
        texts = texts_of(file)
    except UsageError as error:
        assert str(file) in error.what
        return
    assert len(texts.evaluation_sha256) == 64
    assert len(set(texts.evaluation)) >= LEAST_TEXTS


def test_other_texts_are_another_evaluation_set(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n\r\nc\r\n")
    other.write_text("a\nb\nd\n")
    assert texts_of(one).evaluation == ("a", "b", "c")
    assert texts_of(one).evaluation_sha256 != texts_of(other).evaluation_sha256
    assert texts_of(one).golden == proof_texts().golden
