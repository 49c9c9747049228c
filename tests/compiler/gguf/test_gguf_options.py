"""GGUF's own options: what they mean, and that a bad one is refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from model_folder import write_model
from proved_job import job as described

from edgeward.compiler.cli.compile import compile_command
from edgeward.compiler.cli.format_options import FORMAT_OPTIONS, given_options
from edgeward.compiler.formats import gguf
from edgeward.compiler.formats.base import Job
from edgeward.compiler.formats.gguf_options import Choices, choices, importance
from edgeward.compiler.formats.gguf_types import KINDS, NEEDS_IMPORTANCE, TYPE_NUMBERS
from edgeward.compiler.formats.gguf_vocabulary import METRICS
from edgeward.compiler.given_data import GivenData
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.shapes import FixedShapes
from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.bundle.gguf_types import TENSOR_TYPES
from edgeward.targets.load import load as load_profile


def job(precision: str, **options: str | tuple[str, ...]) -> Job:
    named = {
        name.replace("_", "-"): (value,) if isinstance(value, str) else value
        for name, value in options.items()
    }
    return replace(described(), recipe=recipe_for("gguf", precision), options=named)


def test_types_of_tensors_are_read_in_order() -> None:
    wanted = job(
        "q4_k_m",
        tensor_type=("ATTN_V=Q6_K", r"blk\.(0|1)\.ffn_down=q8_0"),
        output_tensor_type="F16",
    )
    tensors = (("attn_v", "q6_k"), (r"blk\.(0|1)\.ffn_down", "q8_0"))
    assert choices(wanted) == Choices(tensors, "f16", "")
    assert not choices(job("q4_k_m"))


@pytest.mark.parametrize(
    "text",
    ["attn_v", "=q8_0", "attn_v=q9_9", "attn_v=", "a b=q8_0", "(a+)+b=q8_0", "a**=q8_0", "(=q8_0"],
)
def test_a_type_of_a_tensor_that_cannot_be_followed_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        gguf.check(job("q4_k_m", tensor_type=text))


@pytest.mark.parametrize("name", ["output_tensor_type", "token_embedding_type"])
def test_a_single_type_is_a_type_and_single(name: str) -> None:
    with pytest.raises(UsageError, match="no tensor type 'q7'"):
        gguf.check(job("q8_0", **{name: "q7"}))
    with pytest.raises(UsageError, match="more than once"):
        gguf.check(job("q8_0", **{name: ("q8_0", "f16")}))


def test_a_float_takes_no_types_and_no_importance() -> None:
    with pytest.raises(UsageError, match="takes no types of single tensors"):
        gguf.check(job("fp16", tensor_type="attn_v=q8_0"))
    with pytest.raises(UsageError, match="takes no importance matrix"):
        gguf.check(job("fp16", imatrix="auto"))


def test_what_has_few_bits_is_weighed_unless_that_is_refused() -> None:
    assert importance(job("iq2_xs")) == "auto"
    assert importance(job("iq3_s")) == "auto"
    assert importance(job("q4_0")) is None
    assert importance(job("q4_0", imatrix="auto")) == "auto"
    assert importance(job("q4_0", tensor_type="ffn_up=iq2_xs")) == "auto"
    assert importance(job("iq3_s", imatrix="none")) is None
    with pytest.raises(UsageError, match="needs an importance matrix"):
        gguf.check(job("iq2_xs", imatrix="none"))
    with pytest.raises(UsageError, match="needs an importance matrix"):
        gguf.check(job("q8_0", tensor_type="ffn_up=iq2_xs", imatrix="none"))


def test_calibration_texts_that_are_given_weigh_any_precision() -> None:
    given = GivenData("texts", ("a", "b", "c"))
    assert importance(replace(job("q4_0"), given=given)) == "auto"
    assert importance(replace(job("q4_0", imatrix="none"), given=given)) is None
    assert importance(replace(job("fp16"), given=given)) is None


def test_a_matrix_that_is_not_there_or_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no importance matrix at"):
        gguf.check(job("q4_0", imatrix=str(tmp_path / "none.gguf")))
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(UsageError, match="is no importance matrix"):
        gguf.check(job("q4_0", imatrix=str(other)))


def test_fixed_shapes_and_a_target_without_llama_are_refused() -> None:
    with pytest.raises(UsageError, match="no fixed shapes"):
        gguf.check(replace(job("q8_0"), shapes=FixedShapes((("sequence", (16,)),))))
    profile = load_profile("x86-64-cpu")
    bare = replace(profile, engines=profile.engines[:1])
    with pytest.raises(UnsupportedError, match="runs no GGUF"):
        gguf.check(replace(job("q8_0"), profile=bare))


def test_the_table_of_precisions_is_the_recipes() -> None:
    assert list(KINDS) == list(gguf.precisions())
    assert all(kind.tensors in TYPE_NUMBERS for kind in KINDS.values())
    assert set(TYPE_NUMBERS) >= NEEDS_IMPORTANCE
    assert all(TENSOR_TYPES[number].name.lower() == name for name, number in TYPE_NUMBERS.items())
    for precision, kind in KINDS.items():
        assert gguf.tolerances()[precision, "distributions"].golden
        assert gguf.tolerances()[precision, "vectors"].golden
        assert kind.weighed == precision.startswith(("iq2", "iq3", "mixed"))


def test_more_bits_are_held_to_more() -> None:
    table = gguf.tolerances()
    order = ["fp32", "fp16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0"]
    order += ["iq3_m", "iq3_xxs", "iq2_m", "iq2_xs"]

    def bound(precision: str, kind: str, metric: str) -> float:
        told = table[precision, kind]
        return next(b.bound for b in told.compile_only if b.metric == metric)

    divergences = [bound(name, "distributions", "eval_kl_mean") for name in order]
    assert divergences == sorted(divergences)
    cosines = [bound(name, "vectors", "eval_cosine_min") for name in order]
    assert cosines == sorted(cosines, reverse=True)


@pytest.mark.parametrize("precision", KINDS)
def test_a_broken_file_passes_at_no_precision(precision: str) -> None:
    told = gguf.tolerances()[precision, "distributions"]
    unrelated = {"eval_kl_mean": 4.0, "eval_top1_agreement": 0.05, "eval_perplexity_ratio": 50.0}
    for bound in told.compile_only:
        if bound.metric in unrelated:
            assert not bound.check(unrelated[bound.metric]).passed
    for bound in gguf.tolerances()[precision, "vectors"].compile_only:
        if bound.metric in ("eval_cosine_mean", "eval_cosine_min"):
            assert not bound.check(0.3).passed


@pytest.mark.parametrize("kind", ["distributions", "vectors"])
def test_a_wrong_tokenizer_passes_at_no_precision(kind: str) -> None:
    for precision in KINDS:
        bounds = gguf.tolerances()[precision, kind].compile_only
        held = {bound.metric for bound in bounds if not bound.check(0.99).passed}
        assert held >= set(METRICS)


def test_named_options_reach_the_request() -> None:
    values = {one.parameter: () if one.repeatable else None for one in FORMAT_OPTIONS}
    values |= {"tensor_type": ("a=q8_0", "b=f16"), "imatrix": "auto"}
    assert given_options(values) == {"tensor-type": ("a=q8_0", "b=f16"), "imatrix": ("auto",)}


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_an_option_of_another_format_is_refused(tmp_path: Path, precision: str) -> None:
    model = write_model(tmp_path / "model")
    call = [str(model), "-t", "x86-64-cpu", "--imatrix", "auto", "--dry-run"]
    call += ["--precision", precision]
    found = CliRunner().invoke(compile_command, call).exception
    assert isinstance(found, UsageError)
    assert found.what == "onnx has no option --imatrix"
