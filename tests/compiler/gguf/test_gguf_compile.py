"""A whole compile to GGUF: converted, weighed, quantised, proved, packaged, and loaded again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_here import llama_here
from real_model import minilm

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model
from edgeward.compiler.stages import StageRunner
from edgeward.errors import ProofError
from edgeward.runtimes import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def embedding() -> Path:
    """A real model, found before a test has a cache of its own."""
    return minilm()


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[None]:
    before = list(sys.path)
    llama_here(tmp_path / "llama")
    yield
    sys.path[:] = before


def compiled(
    runner: StageRunner, model: Path, output: Path, precision: str, **options: tuple[str, ...]
) -> Compiled:
    texts = output / "texts.txt"
    texts.write_text("The ferry leaves at nine.\nA boat is small.\nTaxes are due in May.\n")
    request = CompileRequest(
        str(model),
        ("x86-64-cpu",),
        output,
        (precision,),
        format="gguf",
        options={name.replace("_", "-"): value for name, value in options.items()},
        evaluation=texts,
        accept_degraded=model.name != minilm().name,
    )
    (one,) = compile_model(request, runner=runner)
    return one


def test_a_generator_of_two_bits_is_weighed_and_answers(
    runner: StageRunner, models: dict[str, Path], tmp_path: Path, llama: None
) -> None:
    one = compiled(runner, models["wide"], tmp_path, "iq2_xs")
    manifest = one.bundle.manifest
    assert [stage.name for stage in manifest.stages][:5] == [
        "convert",
        "vocabulary-reference",
        "vocabulary",
        "imatrix",
        "quantise",
    ]
    assert manifest.recipe.calibration_sha256
    assert "IQ2_XS:" in str(manifest.recipe.options["tensor_types"])
    assert "fallback_tensors" not in manifest.recipe.options
    assert manifest.recipe.options["providers"] == "CPU"
    assert manifest.tools["llama-cpp-python"]
    assert manifest.entry.endswith(".gguf")
    figures = manifest.proof.figures
    assert figures["vocabulary_ids_equal"] == figures["chat_template_equal"] == 1
    assert manifest.proof.engine is not None
    assert manifest.proof.engine.name == "llama.cpp"
    session = load(one.bundle.path, threads=1)
    pieces = list(session.generate("A", max_tokens=4))
    assert pieces


def test_a_real_embedding_model_passes_its_proof(
    runner: StageRunner, embedding: Path, tmp_path: Path, llama: None
) -> None:
    one = compiled(runner, embedding, tmp_path, "q8_0")
    assert not one.bundle.manifest.proof.degraded
    assert one.bundle.manifest.proof.figures["eval_cosine_mean"] > 0.999
    vectors = load(one.bundle.path, threads=1).embed(["a ferry", "a boat", "a tax return"])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_rounding_that_costs_too_much_fails_the_proof(
    runner: StageRunner, embedding: Path, tmp_path: Path
) -> None:
    with pytest.raises(ProofError, match="proof failed for q8_0") as error:
        compiled(runner, embedding, tmp_path, "q8_0", tensor_type=("blk=q4_0",))
    assert error.value.exit_code == 3
