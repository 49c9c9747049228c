"""Quantisation: byte for byte llama.cpp's own, and what fell back to another type is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_maker import JobMaker
from llama_tools import bare_quantise

from edgeward.compiler.formats.gguf import convert_stage, importance_stage, quantise_stage
from edgeward.compiler.formats.gguf_imatrix_file import Sums, read_importance, write_importance
from edgeward.compiler.formats.gguf_types import KINDS, TYPE_NUMBERS
from edgeward.compiler.stages import StageInput, StageResult, StageRunner
from edgeward.errors import StageError, UsageError
from edgeward.runtimes.bundle.gguf_header import GgufHeader, read_header

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def converted(runner: StageRunner, model: Path, job_of: JobMaker) -> StageInput:
    return runner.run(convert_stage(job_of(model, "q8_0"))).as_input("model.gguf")


def types(header: GgufHeader) -> dict[str, str]:
    return {tensor.name: tensor.type_name.lower() for tensor in header.tensors}


@pytest.mark.parametrize(
    ("precision", "options", "settings"),
    [
        ("q8_0", {}, {}),
        ("q4_0", {}, {}),
        ("iq4_xs", {}, {}),
        (
            "q4_k_m",
            {"tensor_type": ("attn_v=q8_0", r"blk\.1\.ffn_(up|gate)=Q5_1")},
            {"tensors": [["attn_v", "q8_0"], [r"blk\.1\.ffn_(up|gate)", "q5_1"]]},
        ),
        (
            "q6_k",
            {"output_tensor_type": ("f16",), "token_embedding_type": ("q4_0",)},
            {"output": "f16", "embedding": "q4_0"},
        ),
    ],
)
def test_the_file_is_llama_cpps(
    runner: StageRunner,
    models: dict[str, Path],
    job_of: JobMaker,
    tmp_path: Path,
    precision: str,
    options: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    source = converted(runner, models["wide"], job_of)
    made = runner.run(quantise_stage(job_of(models["wide"], precision, **options), source, None))
    asked: dict[str, Any] = {"ftype": KINDS[precision].number}
    asked |= {n: TYPE_NUMBERS[v] for n, v in settings.items() if isinstance(v, str)}
    if "tensors" in settings:
        asked["tensors"] = [[name, TYPE_NUMBERS[kind]] for name, kind in settings["tensors"]]
    bare_quantise(source.path, tmp_path / "bare.gguf", **asked)
    assert (made.path / "model.gguf").read_bytes() == (tmp_path / "bare.gguf").read_bytes()
    got = types(read_header(made.path / "model.gguf"))
    if "tensors" in settings:
        assert got["blk.0.attn_v.weight"] == got["blk.1.attn_v.weight"] == "q8_0"
        assert got["blk.1.ffn_up.weight"] == got["blk.1.ffn_gate.weight"] == "q5_1"
        assert got["blk.0.ffn_up.weight"] == "q4_k"
    if "output" in settings:
        assert (got["output.weight"], got["token_embd.weight"]) == ("f16", "q4_0")


def test_a_weighed_file_is_llama_cpps(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker, tmp_path: Path
) -> None:
    source, job = converted(runner, models["wide"], job_of), job_of(models["wide"], "iq2_xs")
    weights = runner.run(importance_stage(job, source)).as_input("imatrix.gguf")
    made = runner.run(quantise_stage(job, source, weights))
    importance = read_importance(weights.path)
    bare_quantise(
        source.path,
        tmp_path / "bare.gguf",
        ftype=KINDS["iq2_xs"].number,
        importance={name: means.tolist() for name, means in importance.means.items()},
        notes={
            "quantize.imatrix.file": "imatrix.gguf",
            "quantize.imatrix.dataset": "calibration",
            "quantize.imatrix.entries_count": len(importance.means),
            "quantize.imatrix.chunks_count": importance.chunks,
        },
    )
    assert (made.path / "model.gguf").read_bytes() == (tmp_path / "bare.gguf").read_bytes()
    unweighed = runner.run(quantise_stage(job_of(models["wide"], "q4_0"), source, None))
    weighed = runner.run(quantise_stage(job_of(models["wide"], "q4_0"), source, weights))
    assert (weighed.data["weighed"], unweighed.data["weighed"]) == (14, 0)
    assert (weighed.path / "model.gguf").read_bytes() != (
        unweighed.path / "model.gguf"
    ).read_bytes()


def test_few_bits_without_a_matrix_are_refused_in_llama_cpps_words(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker
) -> None:
    source = converted(runner, models["wide"], job_of)
    with pytest.raises(StageError, match="could not quantise") as error:
        runner.run(quantise_stage(job_of(models["wide"], "iq2_xxs"), source, None))
    assert "imatrix" in error.value.why


def test_a_matrix_of_another_model_is_refused(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker, tmp_path: Path
) -> None:
    source = converted(runner, models["wide"], job_of)
    sums = {"other.weight": Sums(np.ones((1, 4)), np.array([512]))}
    write_importance(tmp_path / "other.gguf", sums, "calibration", 512)
    weights = StageInput(tmp_path / "other.gguf", "other")
    with pytest.raises(UsageError, match="an importance matrix of another model"):
        runner.run(quantise_stage(job_of(models["wide"], "q4_0"), source, weights))


def fallbacks(made: StageResult) -> dict[str, tuple[int, str, str]]:
    return {name: (columns, wanted, got) for name, columns, wanted, got in made.data["fallbacks"]}


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_every_tensor_that_fell_back_is_told(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker, name: str
) -> None:
    source = converted(runner, models[name], job_of)
    made = runner.run(quantise_stage(job_of(models[name], "q4_k_m"), source, None))
    header = read_header(made.path / "model.gguf")
    told = fallbacks(made)
    got = types(header)
    quantised = {n for n, kind in got.items() if kind not in ("f32", "f16")}
    # No row of these models divides by 256.
    assert set(told) == quantised
    assert all(got[n] == kind and columns % 256 for n, (columns, _, kind) in told.items())
    assert f"{len(told)} of {len(header.tensors)} tensors fell back" in made.data["summary"]


def test_nothing_falls_back_where_rows_divide(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker
) -> None:
    source = converted(runner, models["wide"], job_of)
    made = runner.run(quantise_stage(job_of(models["wide"], "q4_k_m"), source, None))
    assert made.data["fallbacks"] == []
    assert made.data["types"]["Q4_K"] > 0
    assert "fell back" not in made.data["summary"]
