"""Every supported architecture as a tiny random model: compiles, loads, agrees, quantised too."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from documents import ROOT
from fresh_cache import fresh_cache
from matrix import sampled
from safetensors.numpy import load_file, save_file

from edgeward.compiler.architectures import TEXT_ENCODERS
from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import SourceError
from edgeward.runtimes import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FLOAT32_DIFFERENCE = 1e-4
# Their bodies are BERT's, RoBERTa's or DeBERTa-v2's but for names, sizes, norms and embeddings.
# Every run shows one of each way to tell places, share layers and multiply.
AKIN = {
    *("camembert", "data2vec-text", "deberta", "distilbert", "electra", "ernie", "ibert"),
    *("megatron-bert", "rembert", "roberta-prelayernorm", "splinter", "xlm-roberta"),
    "xlm-roberta-xl",
}
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


@pytest.fixture(scope="module")
def runner(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    """One for all models: torch is imported once."""
    request = CompileRequest("", (), tmp_path_factory.getbasetemp())
    with stage_runner(request, NullReporter()) as stages:
        yield stages


Compile = Callable[..., list[Compiled]]


@pytest.fixture
def compiled(runner: StageRunner, encoders: Path, tmp_path: Path) -> Compile:
    """Compiles an encoder by its name."""

    def run(name: str, *precisions: str) -> list[Compiled]:
        request = CompileRequest(
            model=str(encoders / name),
            targets=("x86-64-cpu",),
            output=tmp_path / "build",
            precisions=precisions or ("fp32",),
            accept_degraded=True,
        )
        return list(compile_model(request, runner=runner))

    return run


def checks(one: Compiled) -> dict[str, float]:
    return {check.metric: check.value for check in one.checks}


def test_every_supported_architecture_is_in_the_matrix(encoders: Path) -> None:
    assert {path.name for path in encoders.iterdir()} >= TEXT_ENCODERS


@pytest.mark.parametrize("model_type", sampled(sorted(TEXT_ENCODERS), *TEXT_ENCODERS - AKIN))
def test_it_compiles_and_agrees(compiled: Compile, model_type: str) -> None:
    exact, half, quantised = compiled(model_type, "fp32", "fp16", "int8-dynamic")
    assert checks(exact)["untraced_relative_difference"] < FLOAT32_DIFFERENCE
    assert checks(exact)["relative_difference"] < FLOAT32_DIFFERENCE
    assert not exact.bundle.manifest.proof.degraded
    assert half.bundle.manifest.proof.figures["eval_cosine_mean"] > 0.9999
    assert checks(quantised)["eval_cosine_min"] > 0.99
    assert not quantised.bundle.manifest.proof.degraded
    assert quantised.bundle.manifest.size < exact.bundle.manifest.size


@pytest.mark.parametrize("name", HELD_AS)
def test_however_a_repository_holds_it(compiled: Compile, name: str) -> None:
    (plain,) = compiled("bert")
    (held,) = compiled(name)
    texts = ["Where is gate B12?", "", "يرجى الانتظار هنا", "a " * 200]
    with load(plain.bundle) as one, load(held.bundle) as other:
        tolerance = 0.05 if name in ("bert-fp16", "bert-bf16") else 1e-5
        np.testing.assert_allclose(one.embed(texts), other.embed(texts), atol=tolerance)


@pytest.mark.parametrize("name", POOLED)
def test_sentence_vectors_as_the_models_files_say(
    compiled: Compile, encoders: Path, name: str
) -> None:
    """Torch alone made the vectors: `make_encoders.py` shares no line with ours."""
    (made,) = compiled(name)
    expected = json.loads((encoders / name / "expected.json").read_text())
    with load(made.bundle) as session:
        vectors = session.embed(expected["texts"])
    assert vectors.shape[1] == POOLED[name]
    np.testing.assert_allclose(vectors, expected["vectors"], atol=1e-4)


def test_a_default_prompt_is_put_before_the_text(compiled: Compile) -> None:
    (made,) = compiled("bert-cls")
    with load(made.bundle) as session:
        asked = session.embed(["gate B12"], prompt="query")
        np.testing.assert_array_equal(session.embed(["gate B12"]), asked)
        assert np.abs(session.embed(["gate B12"], prompt="passage") - asked).max() > 1e-3


def test_a_folder_that_changed_is_loaded_again(runner: StageRunner, encoders: Path) -> None:
    folder = shutil.copytree(encoders / "bert", encoders / "changing")
    vectors = []
    for scale in (1.0, 2.0):
        weights = load_file(encoders / "bert" / "model.safetensors")
        changed = {name: scale * tensor for name, tensor in weights.items()}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        request = CompileRequest(str(folder), ("x86-64-cpu",), folder / "build", ("fp32",))
        (made,) = compile_model(request, runner=runner)
        with load(made.bundle) as session:
            vectors.append(session.embed(["gate B12"]))
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_weights_are_told_as_such(compiled: Compile, tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=SPOILED[name]):
        compiled(name)
    assert not (tmp_path / "build").exists()
