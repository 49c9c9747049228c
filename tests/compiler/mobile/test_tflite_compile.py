"""Tiny models of each kind to TFLite, proved in the target's runtime and run there again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from fresh_cache import fresh_cache

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import UnsupportedError
from edgeward.runtimes.engines.litert_file import read_tflite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SUPPORT = ROOT / "tests" / "support"
MAKE = """
import sys
from pathlib import Path
import make_heads
make_heads.DETECTION, make_heads.DEPTH = {}, {}
make_heads.VISION = {name: make_heads.VISION[name] for name in ("resnet", "dinov2")}
make_heads.images(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    python = Toolchains().ensure("litert", NullReporter()).python
    for arguments in (
        ["-c", MAKE, folder],
        [SUPPORT / "make_decoders.py", folder, "llama"],
        [SUPPORT / "make_encoders.py", folder],
    ):
        environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
        command = [python, *arguments]
        subprocess.run(command, check=True, capture_output=True, env=environment)
    return folder


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    """One for all models: torch is imported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        request = CompileRequest("", (), tmp_path_factory.getbasetemp())
        with stage_runner(request, NullReporter()) as stages:
            yield stages


Compile = Callable[..., Compiled]


@pytest.fixture
def compiled(runner: StageRunner, models: Path, tmp_path: Path) -> Compile:
    def run(name: str, target: str, precision: str, **more: Any) -> Compiled:
        request = CompileRequest(
            model=str(models / name), targets=(target,), output=tmp_path / "build",
            precisions=(precision,), format="tflite", **more,
        )  # fmt: skip
        (done,) = compile_model(request, runner=runner)
        return done

    return run


def edgeward(toolchain: str, *arguments: str) -> str:
    """Run a command where the device's runtime is."""
    python = Toolchains().ensure(toolchain, NullReporter()).python
    done = subprocess.run(
        [python, "-m", "edgeward", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_encoder_has_a_signature_for_each_length(compiled: Compile) -> None:
    done = compiled("bert", "android-mid", "fp32", shapes="batch=1,sequence=16|48")
    assert all(check.passed for check in done.checks)
    told = read_tflite(done.bundle.entry)
    assert [one.name for one in told.signatures] == ["serving_default", "batch1_sequence16"]
    assert done.bundle.entry.stat().st_size < 1.3 * weights(done)
    proved = json.loads(edgeward("litert-runtime", "verify", str(done.bundle.path), "-o", "json"))
    assert proved


def weights(done: Compiled) -> int:
    """The bytes of a file with one copy of each weight: its signatures share them."""
    told = read_tflite(done.bundle.entry)
    return sum(one.size for one in told.graphs[0].tensors) + (1 << 19)


def test_convolutions_are_integers_from_end_to_end(compiled: Compile) -> None:
    done = compiled("image-classification/resnet", "coral-edgetpu", "int8-static")
    assert done.bundle.manifest.proof.engine.name == "tflite-runtime"
    told = read_tflite(done.bundle.entry)
    kinds = {one.dtype for one in told.graphs[0].tensors}
    assert kinds <= {"int8", "int32"}
    edgeward("tflite-runtime", "verify", str(done.bundle.path))


def test_attention_is_refused_before_any_work(compiled: Compile) -> None:
    with pytest.raises(UnsupportedError, match="cannot be int8 throughout"):
        compiled("image-classification/dinov2", "android-mid", "int8-static")


def packed_bytes(done: Compiled) -> int:
    """The bytes that XNNPACK packs a decoder's weights into."""
    python = Toolchains().ensure("litert-runtime", NullReporter()).python
    command = [python, SUPPORT / "packed_bytes.py", done.bundle.entry]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    told = subprocess.run(command, check=True, capture_output=True, env=environment)
    return int(told.stdout)


def test_a_generator_packs_its_weights_once_for_all_signatures(compiled: Compile) -> None:
    done = compiled("llama", "android-mid", "fp32", options={"prefill": ("8", "16")})
    once = sum(one.size for one in read_tflite(done.bundle.entry).graphs[0].tensors)
    assert 0.5 * once < packed_bytes(done) < 1.3 * once


def test_a_generator_writes_in_slots(compiled: Compile) -> None:
    done = compiled("llama", "android-mid", "int8-weights")
    told = read_tflite(done.bundle.entry)
    assert [one.name for one in told.signatures] == ["prefill_128", "decode"]
    # It goes number by number outside of XNNPACK: twelve times the time of a token.
    assert "BROADCAST_TO" not in {one.name for graph in told.graphs for one in graph.operators}
    edgeward("litert-runtime", "verify", str(done.bundle.path))
    written = edgeward(
        "litert-runtime", "run", str(done.bundle.path), "The ferry", "--max-tokens", "4"
    )
    assert written
