"""Encoders with a decoder: every family as a tiny model, Whisper tiny.en on real speech."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from documents import ROOT
from fresh_cache import fresh_cache
from matrix import sampled
from numpy.typing import NDArray
from onnx import numpy_helper
from typed import typed
from whisper_tiny import whisper_tiny

from edgeward.compiler.architectures import SPEECH_WRITERS, WRITERS
from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import open_bundle
from edgeward.runtimes.proof.bisect import bisect_bundles
from edgeward.runtimes.proof.bisect_words import layer_of
from edgeward.runtimes.proof.golden import run_golden
from edgeward.runtimes.proof.words import word_errors
from edgeward.runtimes.tasks.sound import read_wav

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SPEECH = ROOT / "compiler" / "data" / "speech"
SAID = "The quick brown fox jumps over the lazy dog."
TEXT = "The last ferry to the islands leaves at seven."
FLOAT32_DIFFERENCE = 1e-4
ROUNDED = ("bart", "marian", "t5", "whisper")
# Marian is BART but for its places, which are sines.
ALWAYS = ("bart", "t5", "whisper")
Compile = Callable[..., Compiled]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writers")
    python = Toolchains().ensure("onnx", NullReporter()).python
    script = ROOT / "tests" / "support" / "make_writers.py"
    names = sorted(WRITERS | SPEECH_WRITERS)
    subprocess.run([python, script, folder, *names], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def runner(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    """One for all models: torch is imported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        with stage_runner(CompileRequest("", (), models), NullReporter()) as stages:
            yield stages


@pytest.fixture
def compiled(runner: StageRunner, models: Path, tmp_path: Path) -> Compile:
    def run(model_type: str, precision: str = "fp32", **more: Any) -> Compiled:
        request = CompileRequest(
            **{
                "model": str(models / model_type),
                "targets": ("x86-64-cpu",),
                "output": tmp_path / "build",
                "precisions": (precision,),
                "accept_degraded": precision != "fp32",
                **more,
            }
        )
        (one,) = compile_model(request, runner=runner)
        return one

    return run


@pytest.mark.parametrize("model_type", sampled(sorted(WRITERS | SPEECH_WRITERS), *ALWAYS))
def test_it_reads_and_writes_as_the_original(compiled: Compile, model_type: str) -> None:
    manifest = compiled(model_type).bundle.manifest
    figures = manifest.proof.figures
    assert figures["untraced_relative_difference"] < FLOAT32_DIFFERENCE
    assert figures["eval_greedy_agreement"] == 1
    assert figures["eval_wer"] == 0
    assert figures["wer"] == 0
    assert manifest.parts == {"encoder": "onnx/encoder_model.onnx"}
    assert manifest.entry == "onnx/decoder_with_past_model.onnx"
    assert {"encoder_ms", "ttft_ms", "tpot_ms"} <= manifest.performance.measured.keys()


@pytest.mark.parametrize("model_type", sampled(ROUNDED, *ALWAYS))
def test_both_graphs_are_rounded(compiled: Compile, model_type: str) -> None:
    exact = compiled(model_type).bundle
    sizes = {}
    for precision in ("fp16", "int8-dynamic", "int8-weights", "int4-weights"):
        bundle = compiled(model_type, precision).bundle
        figures = bundle.manifest.proof.figures
        assert figures["eval_kl_mean"] < (0.2 if precision == "int4-weights" else 0.02)
        sizes[precision] = bundle.manifest.size
        if precision in ("fp16", "int8-dynamic"):
            for place in (bundle.manifest.entry, *bundle.manifest.parts.values()):
                mine = (bundle.path / place).stat().st_size
                plain = place.replace("_fp16", "").replace("_quantized", "")
                assert mine < 0.85 * (exact.path / plain).stat().st_size
    assert max(sizes.values()) < exact.manifest.size


def test_graphs_are_portable_and_tell_their_axes(compiled: Compile) -> None:
    bundle = compiled("t5").bundle
    for place in (bundle.manifest.entry, *bundle.manifest.parts.values()):
        graph = onnx.load(bundle.path / place)
        onnx.checker.check_model(graph, full_check=True)
        assert {one.domain for one in graph.opset_import} == {""}
    shapes = {spec.name: spec.shape for spec in bundle.manifest.inputs}
    assert shapes["input_ids"] == ["batch", "sequence"]
    assert shapes["encoder_attention_mask"] == ["batch", "encoder_sequence"]
    assert shapes["past_key_values.1.decoder.value"] == ["batch", 4, "past", 16]
    assert shapes["past_key_values.0.encoder.key"] == ["batch", 4, "encoder_sequence", 16]


def test_a_text_is_written_and_streamed(compiled: Compile) -> None:
    with load(compiled("t5").bundle, threads=1) as session:
        pieces = list(session.generate(TEXT, max_tokens=12))
        assert 1 <= len(pieces) <= 12
        assert pieces[-1].finish in ("stop", "length")
        again = list(session.generate(TEXT, max_tokens=12))
        assert pieces == again
        sampled = list(session.generate(TEXT, max_tokens=12, temperature=5.0, seed=1))
        assert [one.token for one in sampled] != [one.token for one in pieces]
        with pytest.raises(UsageError, match="reads a text"):
            session.generate([{"role": "user", "content": TEXT}])
        with pytest.raises(UsageError, match="no tokens"):
            session.generate("")
        with pytest.raises(UsageError, match="does not transcribe"):
            session.transcribe(SPEECH / "counting.wav")


def test_a_bundle_proves_itself_again_and_is_found_spoiled(
    compiled: Compile, tmp_path: Path
) -> None:
    bundle = compiled("bart").bundle
    assert run_golden(bundle, threads=1).passed
    spoiled = tmp_path / "spoiled"
    shutil.copytree(bundle.path, spoiled)
    encoder = spoiled / bundle.manifest.parts["encoder"]
    layer = _spoil(encoder)
    found = bisect_bundles(open_bundle(spoiled, check="sizes"), bundle)
    assert found.first is not None
    assert found.first.layer == layer
    _accept_sizes(spoiled)
    report = run_golden(open_bundle(spoiled, check="sizes"), threads=1)
    assert not report.passed
    assert report.metrics["kl_mean"] > 1e-4


def test_static_int8_is_refused_before_any_work(compiled: Compile) -> None:
    with pytest.raises(UnsupportedError, match="encoder with a decoder"):
        compiled("t5", "int8-static")


@pytest.mark.parametrize("precision", sampled(("fp32", "int8-dynamic"), "fp32"))
def test_whisper_transcribes_real_speech(compiled: Compile, precision: str) -> None:
    one = compiled("whisper-tiny.en", precision, model=str(whisper_tiny()), accept_degraded=False)
    figures = one.bundle.manifest.proof.figures
    assert figures["eval_cer"] <= (0 if precision == "fp32" else 0.05)
    assert figures["features_difference"] < 1e-3
    with load(one.bundle, threads=1) as session:
        heard = session.transcribe(SPEECH / "quick_brown_fox.wav")
        assert word_errors(SAID, heard.text) == (0, 9)
        assert 2 < heard.seconds < 4
        long = session.transcribe(_twelve_times(SPEECH / "quick_brown_fox.wav"), rate=16_000)
        assert len(long.parts) == 2
        errors, words = word_errors(" ".join([SAID] * 12), long.text)
        assert errors / words < 0.1
        with pytest.raises(UsageError, match="knows no language"):
            session.transcribe(SPEECH / "counting.wav", language="de")


def test_whisper_is_measured_on_real_speech(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_BENCH_STORE", str(tmp_path / "bench.sqlite"))
    bundle = compiled("whisper-tiny.en", "fp32", model=str(whisper_tiny())).bundle
    short = ("--threads", "1", "--min-queries", "2", "--min-duration", "0", "--qps", "9")
    asked = ("--data", str(SPEECH / "quick_brown_fox.wav"), "--target", "x86-64-cpu")
    scenarios = ("SingleStream", "Offline", "Server")
    done = typed(
        *("bench", bundle.path, *asked, *short, "--scenario", ",".join(scenarios), "-o", "json")
    )
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert [each["scenario"] for each in records] == list(scenarios)
    for each in records:
        assert each["n_gen"] == 11, "ten tokens and the end"
        assert each["sound_seconds"] == pytest.approx(2.57, abs=0.01)
        heard = each["served_p50_ms"] / 1e3 / each["sound_seconds"]
        assert each["real_time_factor"] == pytest.approx(heard)
        assert abs(each["peak_memory_bytes_error_percent"]) < 20
        assert each["predicted_ttft_ms"] > 0 < each["predicted_tpot_ms"]


def _twelve_times(path: Path) -> NDArray[np.float32]:
    """Longer than a window, half a second of silence between."""
    return np.tile(np.append(read_wav(path).values, np.zeros(8000, np.float32)), 12)


def _spoil(graph: Path) -> str:
    """Mix the rows of one product's weights; return the layer that it belongs to."""
    model = onnx.load(graph)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    products = [n for n in model.graph.node if n.op_type == "Gemm" and n.input[1] in stored]
    node = products[7]
    tensor = stored[node.input[1]]
    values = np.random.default_rng(0).permutation(numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    onnx.save(model, graph)
    return layer_of(node)


def _accept_sizes(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    for entry in manifest["files"]:
        entry["size"] = (bundle / entry["path"]).stat().st_size
    (bundle / "manifest.json").write_text(json.dumps(manifest))
