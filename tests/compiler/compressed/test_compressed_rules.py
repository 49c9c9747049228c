"""What is refused before any work: models, engines, precisions, options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from documents import ROOT
from proved_job import PERFECT

from edgeward.compiler.architectures import DECODERS
from edgeward.compiler.formats import compressed
from edgeward.compiler.formats.base import Job
from edgeward.compiler.formats.compressed_schemes import ENGINE_PRECISIONS, SCHEMES
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.source import Source
from edgeward.compiler.tasks import TASKS
from edgeward.compiler.tolerances import tolerances_for
from edgeward.errors import EngineError, UnsupportedError, UsageError
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.registry import ENGINE_OF_FORMAT
from edgeward.targets.load import load, names
from edgeward.targets.profile import Profile

FP8, FP4 = {"fp8-dynamic", "fp8-static"}, {"nvfp4", "nvfp4a16", "mxfp4"}
INT4 = {"w4a16-gptq", "w4a16-awq", "w4a16-rtn"}


def job(
    target: str = "h100",
    precision: str = "fp8-dynamic",
    model_type: str = "llama",
    engine: str | None = None,
    options: Mapping[str, tuple[str, ...]] | None = None,
) -> Job:
    source = Source(
        folder=Path("/nowhere"), id="org/tiny", revision="", license="", architecture="X",
        model_type=model_type, task="text-generation", weights_sha256="0" * 64, digest="d",
        files=(), weight_bytes=1,
    )  # fmt: skip
    recipe = recipe_for("compressed", precision)
    return Job(source, load(target), recipe, engine=engine, options=options or {})


def test_every_precision_has_numbers_limits_and_a_target() -> None:
    precisions = set(compressed.precisions())
    assert precisions == set(SCHEMES)
    assert {precision for precision, _ in compressed.tolerances()} == precisions
    taken = {p for name in names() for p in load(name).formats.get("compressed", ())}
    assert taken == precisions


@pytest.mark.parametrize("model_type", sorted(compressed.REFUSED))
def test_what_cannot_be_proved_is_refused_in_words(model_type: str) -> None:
    assert model_type in DECODERS
    with pytest.raises(UnsupportedError, match="has no compressed checkpoint") as caught:
        compressed.check(job(model_type=model_type))
    assert caught.value.why == compressed.REFUSED[model_type]


def test_ordinary_decoders_are_taken() -> None:
    assert set(compressed.REFUSED) == {"falcon", "gpt2", "mixtral", "qwen2_moe", "qwen3_moe"}
    compressed.check(job())
    for model_type in ("qwen3", "gemma2", "phi3", "opt"):
        compressed.check(job(model_type=model_type))


def test_tensorrt_llm_loads_what_modelopt_makes_and_nothing_else() -> None:
    compressed.check(job(precision="fp8-static", engine="tensorrt-llm"))
    with pytest.raises(UnsupportedError, match="tensorrt-llm does not load w8a8") as caught:
        compressed.check(job(precision="w8a8", engine="tensorrt-llm"))
    assert "fp8-static, nvfp4, w4a16-awq" in str(caught.value.why)


def test_an_engine_without_such_checkpoints_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="onnxruntime does not load"):
        compressed.check(job(engine="onnxruntime"))
    with pytest.raises(UnsupportedError, match="kiosk-x86 does not load"):
        compressed.check(job(target="kiosk-x86"))


def test_the_usual_producer_writes_for_the_usual_engines() -> None:
    told = compressed.engine_options(job(precision="fp8-static"))
    assert told == {"producer": "llm-compressor", "engines": "vllm,sglang"}
    told = compressed.engine_options(job(precision="fp8-static", engine="tensorrt-llm"))
    assert told == {"producer": "modelopt", "engines": "tensorrt-llm"}
    assert compressed.engine_options(job("b200", "mxfp4"))["engines"] == "vllm"


def test_group_sizes_are_those_that_engines_have() -> None:
    def grouped(size: str, precision: str = "w4a16-rtn") -> Job:
        return job(precision=precision, options={"group-size": (size,)})

    compressed.check(grouped("64"))
    for wrong in ("48", "-64", "x", "²", "4096"):
        with pytest.raises(UsageError, match="is no group size"):
            compressed.check(grouped(wrong))
    for fixed in ("fp8-dynamic", "w8a8"):
        with pytest.raises(UsageError, match="has no group size of its choice"):
            compressed.check(grouped("64", fixed))


def capability(profile: Profile) -> float | None:
    stated = profile.match.compute_capability
    return float(stated) if stated is not None else None


@pytest.mark.parametrize("name", ["t4", "a100", "a10g", "l4", "h100", "b200"])
def test_a_gpu_takes_what_its_kernels_compute(name: str) -> None:
    profile = load(name)
    taken, sm = set(profile.formats["compressed"]), capability(profile) or 0.0
    assert bool(FP8 & taken) == (sm >= 8.9)
    assert bool(INT4 & taken) == (sm >= 8.0)
    assert bool(FP4 & taken) == (sm >= 10.0)
    assert ("w8a8" in taken) == (7.5 <= sm < 10.0)
    with pytest.raises(UnsupportedError):
        profile.check_recipe("compressed", "nvfp4" if sm < 10 else "w8a8")


def test_every_listed_engine_reads_only_known_precisions() -> None:
    for taken in ENGINE_PRECISIONS.values():
        assert taken <= set(SCHEMES)


def test_the_engine_is_found_by_its_entry_point() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert 'transformers = "edgeward.compiler.torch_engine"' in project
    assert ENGINE_OF_FORMAT["compressed"] == "transformers"


def test_without_its_packages_the_engine_says_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    from edgeward.compiler.torch_engine import open_model

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(EngineError) as caught:
        open_model(tmp_path / "model.safetensors", EngineOptions())
    assert caught.value.exit_code == 5
    assert "pip install torch" in str(caught.value.next)


@pytest.mark.parametrize("precision", sorted(SCHEMES))
def test_a_proof_measures_everything_that_is_bounded(precision: str) -> None:
    limits = tolerances_for(precision, TASKS["text-generation"], compressed.tolerances())
    bounds = (*limits.golden, *limits.compile_only)
    assert {bound.metric for bound in bounds} <= set(PERFECT)
    assert all(bound.check(PERFECT[bound.metric]).passed for bound in bounds)
    assert {"kl_mean", "token_ids_equal"} <= {bound.metric for bound in limits.golden}
