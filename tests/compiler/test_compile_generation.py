"""Text generation: every architecture with its cache, and a real model that answers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from bare_gguf import bare_gguf
from click.testing import CliRunner
from documents import ROOT
from fresh_cache import fresh_cache
from llama_here import llama_here
from matrix import sampled
from smollm2 import smollm2

from edgeward.compiler.architectures import MODEL_TYPES
from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import ProofError, UnsupportedError, UsageError
from edgeward.runtimes import load
from edgeward.runtimes.cli_run import run_command
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.registry import engine_for
from edgeward.runtimes.proof.generation import kl_divergence, read_cases
from edgeward.runtimes.proof.golden import run_golden
from edgeward.runtimes.tasks.generation import Generator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MODELS = sorted(MODEL_TYPES["text-generation"])
# One of each way to place, share, window and mix; the others are built of the same parts.
KINDS = (
    *(
        "bloom",
        "codegen",
        "cohere2",
        "falcon",
        "gemma2",
        "gemma3_text",
        "glm",
        "gpt2",
        "gpt_bigcode",
    ),
    *("gpt_neo", "gpt_neox", "llama", "mixtral", "olmo2", "opt", "phi3", "qwen2_moe", "qwen3"),
    *("stablelm", "starcoder2"),
)
QUESTION = "What is the capital of France?"
Compile = Callable[..., Compiled]


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoders")
    script = ROOT / "tests" / "support" / "make_decoders.py"
    python = Toolchains().ensure("onnx", NullReporter()).python
    subprocess.run([python, script, folder, *MODELS], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def runner(decoders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    """One for all models: torch is imported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        with stage_runner(CompileRequest("", (), decoders), NullReporter()) as stages:
            yield stages


@pytest.fixture
def compiled(runner: StageRunner, decoders: Path, tmp_path: Path) -> Compile:
    def run(model_type: str, precision: str = "fp32", **more: Any) -> Compiled:
        request = CompileRequest(
            model=str(decoders / model_type),
            targets=("x86-64-cpu",),
            output=tmp_path / "build",
            precisions=(precision,),
            **{"accept_degraded": True, **more},
        )
        (one,) = compile_model(request, runner=runner)
        return one

    return run


def agrees(one: Compiled) -> None:
    """The graph's proof holds, shapes that were not traced among it."""
    figures = one.bundle.manifest.proof.figures
    assert one.bundle.manifest.task == "text-generation"
    assert not one.bundle.manifest.proof.degraded
    assert figures["untraced_relative_difference"] < 1e-4
    assert figures["eval_greedy_agreement"] == 1
    assert figures["token_ids_equal"] == 1
    assert one.bundle.manifest.proof.untraced_shapes


@pytest.mark.parametrize("model_type", sampled(MODELS, *KINDS))
def test_it_compiles_and_agrees(compiled: Compile, model_type: str) -> None:
    exact = compiled(model_type)
    agrees(exact)
    rounded = compiled(model_type, "int8-weights").bundle.manifest
    assert rounded.proof.figures["eval_kl_mean"] < 0.1
    assert rounded.size < exact.bundle.manifest.size
    report = run_golden(exact.bundle, threads=1)
    assert report.passed
    assert report.cases >= 6


@pytest.mark.parametrize("model_type", sampled(MODELS, "bloom", "gemma3_text", "gpt2", "mixtral"))
def test_the_graph_of_standard_operators_agrees(compiled: Compile, model_type: str) -> None:
    exact = compiled(model_type, portable=True)
    agrees(exact)
    assert [3, 6, 4] in exact.bundle.manifest.proof.untraced_shapes
    assert exact.bundle.manifest.proof.figures["eval_padded_kl_mean"] < 1e-6
    assert exact.bundle.manifest.recipe.options["portable"] is True


def test_weights_are_stored_once(compiled: Compile) -> None:
    """One graph prefills and decodes, and its head is its embedding."""
    bundle = compiled("gpt2").bundle
    graph = onnx.load(bundle.entry).graph
    vocabulary = 400
    tables = [i.name for i in graph.initializer if vocabulary in i.dims and len(i.dims) == 2]
    assert len(tables) == 1
    assert len(list(bundle.path.rglob("*.onnx"))) == 1
    names = [value.name for value in graph.input]
    assert names[:2] == ["input_ids", "attention_mask"]
    assert "past_key_values.1.value" in names


def test_what_is_fused_for_the_engine_generates_the_same(compiled: Compile) -> None:
    """Fused attention over one buffer for the cache, in prompts longer than one prefill."""
    plain = compiled("qwen3", portable=True).bundle
    with load(plain, threads=1) as session:
        ids = session.generator.encode("The ferry leaves at nine. " * 40)[:300]
        wanted = session.generator.continued(ids, 40)
        exact = session.generator.logits(ids)
    tuned = compiled("qwen3").bundle
    graph = onnx.load(tuned.entry).graph
    assert {node.op_type for node in graph.node} >= {"GroupQueryAttention"}
    assert graph.input[-1].name == "num_logits_to_keep"
    with load(tuned, threads=1) as session:
        assert session.generator.continued(ids, 40) == wanted
        difference = abs(session.generator.logits(ids) - exact).max() / exact.std()
        assert difference < 1e-4


def test_a_model_that_begins_with_no_token_has_no_empty_prompt(
    compiled: Compile, decoders: Path
) -> None:
    folder = decoders / "without_a_first"
    shutil.copytree(decoders / "gpt_neox", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "bos_token_id": None}))
    names = [case.name for case in read_cases(compiled(folder.name).bundle.path)]
    assert "empty" not in names
    assert len(names) >= 6
    with_one = read_cases(compiled("gpt_neox").bundle.path)
    assert "empty" in [case.name for case in with_one]


def test_rounded_weights_are_not_portable(compiled: Compile) -> None:
    with pytest.raises(UnsupportedError, match="cannot be portable"):
        compiled("qwen3", "int8-weights", portable=True)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_keeps_the_distribution(compiled: Compile, precision: str) -> None:
    manifest = compiled("llama", precision).bundle.manifest
    assert manifest.proof.figures["eval_kl_mean"] < 1e-3
    assert manifest.recipe.options.get("compute") == ("float32" if precision == "bf16" else None)


def test_a_generator_is_calibrated_with_an_empty_past(compiled: Compile) -> None:
    """Portable graphs and tuned ones, in integers and in blocks."""
    for precision, most in (("int8-static", 0.1), ("int4-mixed", 0.3)):
        manifest = compiled("llama", precision).bundle.manifest
        assert manifest.recipe.calibration_sha256
        assert manifest.proof.figures["eval_kl_mean"] < most


@pytest.fixture(scope="module")
def real(runner: StageRunner, tmp_path_factory: pytest.TempPathFactory) -> list[Compiled]:
    request = CompileRequest(
        model=str(smollm2()),
        targets=("x86-64-cpu",),
        output=tmp_path_factory.mktemp("real"),
        precisions=("fp32", "int8-weights", "int4-mixed"),
    )
    return list(compile_model(request, runner=runner))


def test_a_real_model_answers(real: list[Compiled]) -> None:
    exact, rounded, _ = (one.bundle.manifest for one in real)
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


def test_mixed_bits_are_between_and_say_what_they_kept(real: list[Compiled]) -> None:
    """Below the line between int4-weights (80 MiB, 0.26 nats) and int8-weights (144, 0.007)."""
    _, eight, mixed = (one.bundle.manifest for one in real)
    assert mixed.size < 0.75 * eight.size
    assert mixed.proof.figures["eval_kl_mean"] < 0.17
    layers = mixed.recipe.layers
    assert {one.bits for one in layers} == {4, 8}
    most = max((one for one in layers if one.weights > 1), key=lambda one: one.error)
    assert most.bits == 8
    assert "self_attn" in most.name


def test_a_generator_that_falls_short_is_refused(runner: StageRunner, tmp_path: Path) -> None:
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
    file = bare_gguf(smollm2(), tmp_path / "model.gguf")
    gguf = Generator(smollm2(), engine_for("gguf").open_model(file, EngineOptions(threads=1)))
    passage = "The ferry to the northern islands leaves from the second pier. " * 30
    with load(real[0].bundle, threads=1) as session:
        for prompt in ([{"role": "user", "content": QUESTION}], "One, two, three, four,", passage):
            wanted = list(session.generate(prompt, max_tokens=24))
            assert list(gguf.stream(prompt, max_tokens=24)) == wanted
        ids = gguf.encode(passage)
        assert kl_divergence(session.generator.logits(ids), gguf.logits(ids)) < 1e-4
