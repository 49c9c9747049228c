"""Every supported architecture as a tiny random model: compiles, loads, agrees, quantised too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from documents import ROOT
from fresh_cache import fresh_cache

from edgeward.compiler.architectures import TEXT_ENCODERS
from edgeward.compiler.compile import Compiled, CompileRequest, compile_model
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import SourceError
from edgeward.runtimes import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FLOAT32_DIFFERENCE = 1e-4
HELD_AS = ("bert-sharded", "bert-fp16", "bert-bf16", "bert-vocabulary", "bert-left")
POOLED = {"bert-dense": 24, "bert-cls": 32, "bert-max": 32, "bert-last": 32}
SPOILED = {
    "bert-nan": "not finite",
    "bert-inf": "not finite",
    "bert-foreign": "lacks",
    "bert-misshapen": "other shapes",
}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    python = Toolchains().ensure("onnx", NullReporter()).python
    script = ROOT / "tests" / "support" / "make_encoders.py"
    subprocess.run([python, script, folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        yield


def compiled(model: Path, output: Path, *precisions: str) -> list[Compiled]:
    request = CompileRequest(
        model=str(model),
        targets=("x86-64-cpu",),
        output=output,
        precisions=precisions or ("fp32",),
        accept_degraded=True,
    )
    return list(compile_model(request))


def checks(one: Compiled) -> dict[str, float]:
    return {check.metric: check.value for check in one.checks}


def test_every_supported_architecture_is_in_the_matrix(encoders: Path) -> None:
    assert {path.name for path in encoders.iterdir()} >= TEXT_ENCODERS


@pytest.mark.parametrize("model_type", sorted(TEXT_ENCODERS))
def test_it_compiles_and_agrees(encoders: Path, tmp_path: Path, model_type: str) -> None:
    exact, quantised = compiled(encoders / model_type, tmp_path, "fp32", "int8-dynamic")
    assert checks(exact)["untraced_relative_difference"] < FLOAT32_DIFFERENCE
    assert checks(exact)["relative_difference"] < FLOAT32_DIFFERENCE
    assert not exact.bundle.manifest.proof.degraded
    assert checks(quantised)["eval_cosine_min"] > 0.99
    assert not quantised.bundle.manifest.proof.degraded
    assert quantised.bundle.manifest.size < exact.bundle.manifest.size


@pytest.mark.parametrize("name", HELD_AS)
def test_however_a_repository_holds_it(encoders: Path, tmp_path: Path, name: str) -> None:
    (plain,) = compiled(encoders / "bert", tmp_path)
    (held,) = compiled(encoders / name, tmp_path)
    texts = ["Where is gate B12?", "", "يرجى الانتظار هنا", "a " * 200]
    with load(plain.bundle) as one, load(held.bundle) as other:
        tolerance = 0.05 if name in ("bert-fp16", "bert-bf16") else 1e-5
        np.testing.assert_allclose(one.embed(texts), other.embed(texts), atol=tolerance)


@pytest.mark.parametrize("name", POOLED)
def test_sentence_vectors_as_the_models_files_say(
    encoders: Path, tmp_path: Path, name: str
) -> None:
    """Torch alone made the vectors: `make_encoders.py` shares no line with ours."""
    (made,) = compiled(encoders / name, tmp_path)
    expected = json.loads((encoders / name / "expected.json").read_text())
    with load(made.bundle) as session:
        vectors = session.embed(expected["texts"])
    assert vectors.shape[1] == POOLED[name]
    np.testing.assert_allclose(vectors, expected["vectors"], atol=1e-4)


def test_a_default_prompt_is_put_before_the_text(encoders: Path, tmp_path: Path) -> None:
    (made,) = compiled(encoders / "bert-cls", tmp_path)
    with load(made.bundle) as session:
        asked = session.embed(["gate B12"], prompt="query")
        np.testing.assert_array_equal(session.embed(["gate B12"]), asked)
        assert np.abs(session.embed(["gate B12"], prompt="passage") - asked).max() > 1e-3


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_weights_are_told_as_such(encoders: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=SPOILED[name]):
        compiled(encoders / name, tmp_path)
    assert not any(tmp_path.iterdir())
