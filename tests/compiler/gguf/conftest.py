"""What GGUF's slow tests share: tiny models that llama.cpp's converter knows, one stage runner."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh_cache import fresh_cache
from job_maker import JobMaker
from llama_tools import make_models
from real_model import minilm
from smollm2 import smollm2

from edgeward.compiler.compile import CompileRequest, plan_bundles, stage_runner
from edgeward.compiler.formats.base import Job
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner

NAMES = (
    "bert", "gpt2", "granite", "llama", "mixtral", "olmo2", "smollm3", "qwen3_moe", "sharded",
    "starcoder2", "unknown", "wide",
)  # fmt: skip


@pytest.fixture(scope="session")
def smol() -> Path:
    """SmolLM2-135M-Instruct, found before a test has a cache of its own."""
    return smollm2()


@pytest.fixture(scope="session")
def tokenizers(smol: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of SmolLM2, and beside it MiniLM's."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(smol / name, folder / name)
    (folder / "wordpiece").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copyfile(minilm() / name, folder / "wordpiece" / name)
    return folder


@pytest.fixture(scope="session")
def models(tokenizers: Path) -> dict[str, Path]:
    """Tiny models by name."""
    return make_models(tokenizers, *NAMES)


@pytest.fixture(scope="module")
def runner(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StageRunner]:
    """One for all tests of a file, on a cache of its own: torch is imported once."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(folder / "cache")))
        with stage_runner(CompileRequest("", (), folder), NullReporter()) as stages:
            yield stages


@pytest.fixture
def job_of(tmp_path: Path) -> JobMaker:
    """Plans a job: `job_of(folder, "q8_0", tensor_type=("attn_v=f16",))`."""

    def make(model: Path, precision: str, **options: Any) -> Job:
        named = {name.replace("_", "-"): value for name, value in options.items()}
        request = CompileRequest(
            str(model), ("x86-64-cpu",), tmp_path, (precision,), format="gguf", options=named
        )
        (plan,) = plan_bundles(request)[1]
        return plan.jobs[0]

    return make
