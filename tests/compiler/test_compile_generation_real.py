"""Text generation: a real model that is compiled, answers, and is refused where it falls short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fresh_cache import fresh_cache
from llama_here import llama_here
from smollm2 import smollm2, smollm2_half

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.errors import ProofError, UsageError
from edgeward.runtimes import load
from edgeward.runtimes.cli_run import run_command
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.registry import engine_for
from edgeward.runtimes.proof.generation import kl_divergence
from edgeward.runtimes.tasks.generation import Generator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    """One for all precisions: torch is imported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        request = CompileRequest("", (), tmp_path_factory.getbasetemp())
        with stage_runner(request, NullReporter()) as stages:
            yield stages


@pytest.fixture(scope="module")
def real(runner: StageRunner, tmp_path_factory: pytest.TempPathFactory) -> list[Compiled]:
    request = CompileRequest(
        model=str(smollm2()),
        targets=("x86-64-cpu",),
        output=tmp_path_factory.mktemp("real"),
        precisions=("fp32", "int8-weights"),
    )
    return list(compile_model(request, runner=runner))


def test_a_real_model_answers(real: list[Compiled]) -> None:
    exact, rounded = (one.bundle.manifest for one in real)
    assert exact.proof.figures["eval_greedy_agreement"] == 1
    assert rounded.proof.figures["eval_kl_mean"] < 0.02
    assert rounded.size < 0.35 * exact.size
    assert exact.recipe.options["portable"] is False
    with load(real[0].bundle, threads=1) as session:
        pieces = list(session.generate([{"role": "user", "content": QUESTION}], max_tokens=40))
        assert "Paris" in "".join(piece.text for piece in pieces)
        assert pieces[-1].finish == "stop"
        again = session.generate([{"role": "user", "content": QUESTION}], max_tokens=3)
        assert len(list(again)) == 3
        with pytest.raises(UsageError, match="does not embed"):
            session.embed(["a"])
        assert session.stats().requests == 3


@pytest.mark.matrix
def test_mixed_bits_are_between_and_say_what_they_kept(
    real: list[Compiled], runner: StageRunner, tmp_path: Path
) -> None:
    """Below the line between int4-weights (80 MiB, 0.26 nats) and int8-weights (144, 0.007)."""
    request = CompileRequest(
        model=str(smollm2()),
        targets=("x86-64-cpu",),
        output=tmp_path,
        precisions=("int4-mixed",),
    )
    (made,) = compile_model(request, runner=runner)
    eight, mixed = real[1].bundle.manifest, made.bundle.manifest
    assert mixed.size < 0.75 * eight.size
    assert mixed.proof.figures["eval_kl_mean"] < 0.17
    layers = mixed.recipe.layers
    assert {one.bits for one in layers} == {4, 8}
    most = max((one for one in layers if one.weights > 1), key=lambda one: one.error)
    assert most.bits == 8
    assert "self_attn" in most.name


@pytest.mark.matrix
def test_a_real_generator_that_falls_short_is_refused(runner: StageRunner, tmp_path: Path) -> None:
    """A model as small as this one loses too much where its activations have 8 bits as well."""
    request = CompileRequest(
        model=str(smollm2()),
        targets=("x86-64-cpu",),
        output=tmp_path,
        precisions=("int8-dynamic",),
    )
    with pytest.raises(ProofError, match="eval_kl_mean"):
        list(compile_model(request, runner=runner))


def test_the_command_line_answers(real: list[Compiled]) -> None:
    folder = str(real[0].bundle.path)
    done = CliRunner().invoke(run_command, [folder, QUESTION, "--threads", "1"])
    assert done.exit_code == 0
    assert "Paris" in done.stdout
    raw = [folder, "One, two, three,", "--raw", "--max-tokens", "3"]
    assert "four" in CliRunner().invoke(run_command, raw).stdout


def test_llama_cpp_writes_what_the_graph_writes(real: list[Compiled], tmp_path: Path) -> None:
    """One model in two engines: the same calls stream the same pieces."""
    llama_here(tmp_path / "llama")
    engine = engine_for("gguf").open_model(smollm2_half(), EngineOptions(threads=1))
    gguf = Generator(smollm2(), engine)
    passage = "The ferry to the northern islands leaves from the second pier. " * 30
    with load(real[0].bundle, threads=1) as session:
        for prompt in ([{"role": "user", "content": QUESTION}], "One, two, three, four,", passage):
            wanted = list(session.generate(prompt, max_tokens=24))
            assert list(gguf.stream(prompt, max_tokens=24)) == wanted
        ids = gguf.encode(passage)
        assert kl_divergence(session.generator.logits(ids), gguf.logits(ids)) < 1e-4
