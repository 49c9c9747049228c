"""Importance matrices: what llama.cpp sees flow into a weight is what torch sees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from job_maker import JobMaker
from llama_tools import SUPPORT, run_there

from edgeward.compiler.formats.gguf import convert_stage, importance_stage
from edgeward.compiler.formats.gguf_imatrix import MOST_WINDOWS, WINDOW
from edgeward.compiler.formats.gguf_imatrix_file import read_importance
from edgeward.compiler.stages import StageInput, StageResult, StageRunner
from edgeward.errors import StageError
from edgeward.runtimes.bundle.gguf_header import GgufHeader, read_header

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def weighed(
    runner: StageRunner, model: Path, job_of: JobMaker, texts: tuple[str, ...] = ()
) -> StageResult:
    job = job_of(model, "q4_0")
    source = runner.run(convert_stage(job)).as_input("model.gguf")
    spec = importance_stage(job, source)
    if texts:
        spec.params["texts"] = list(texts)  # type: ignore[index]
    return runner.run(spec)


def sums_of(path: Path) -> dict[str, np.ndarray]:
    header = read_header(path)
    return {tensor.name: _values(header, tensor.name) for tensor in header.tensors}


def _values(header: GgufHeader, name: str) -> np.ndarray:
    tensor = next(one for one in header.tensors if one.name == name)
    data = np.fromfile(
        header.path, "<f4", tensor.size // 4, offset=header.data_start + tensor.offset
    )
    return data.reshape(tensor.shape)


def token_windows(model: Path, texts: tuple[str, ...]) -> list[list[int]]:
    """Cut as the stage cuts, by the original's tokenizer."""
    code = (
        "import json, sys; from transformers import AutoTokenizer; "
        "t = AutoTokenizer.from_pretrained(sys.argv[1]); "
        "print(json.dumps(t(sys.argv[2], add_special_tokens=False)['input_ids']))"
    )
    ids = json.loads(run_there("gguf", "-c", code, model, "\n".join(texts)))
    windows = [ids[at : at + WINDOW] for at in range(0, len(ids), WINDOW)][:MOST_WINDOWS]
    return [window for window in windows if len(window) >= 16]


def test_it_is_what_torch_sees(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker, tmp_path: Path
) -> None:
    made = weighed(runner, models["wide"], job_of)
    found = read_importance(made.path / "imatrix.gguf")
    windows = token_windows(models["wide"], job_of(models["wide"], "q4_0").calibration)
    words = [",".join(map(str, window)) for window in windows]
    script = SUPPORT / "torch_activations.py"
    run_there("gguf", script, models["wide"], tmp_path / "torch.npz", *words)
    expected = dict(np.load(tmp_path / "torch.npz"))
    assert set(found.means) == set(expected)
    assert made.data["tokens"] == sum(map(len, windows))
    for name, means in expected.items():
        np.testing.assert_allclose(found.means[name], means, rtol=2e-3, atol=1e-9)


def test_each_expert_is_weighed_by_what_it_was_asked(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker
) -> None:
    made = weighed(runner, models["qwen3_moe"], job_of)
    sums, used, experts = sums_of(made.path / "imatrix.gguf"), 2, 4
    for layer in range(2):
        router = f"blk.{layer}.ffn_gate_inp.weight"
        for name in ("gate", "up", "down"):
            weight = f"blk.{layer}.ffn_{name}_exps.weight"
            assert sums[f"{weight}.counts"].shape == (experts, 1)
            assert sums[f"{weight}.counts"].sum() == used * made.data["tokens"]
        # Every token goes to two experts: what all of them see is twice what the router sees.
        gate = sums[f"blk.{layer}.ffn_gate_exps.weight.in_sum2"].sum(axis=0)
        np.testing.assert_allclose(gate, used * sums[f"{router}.in_sum2"], rtol=1e-3)


def test_an_encoder_is_weighed_too(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker
) -> None:
    made = weighed(runner, models["bert"], job_of)
    found = read_importance(made.path / "imatrix.gguf")
    assert {name.split(".", 2)[2] for name in found.means} >= {
        "attn_q.weight",
        "attn_output.weight",
        "ffn_up.weight",
        "ffn_down.weight",
    }


def test_texts_that_are_too_short_are_refused(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker
) -> None:
    with pytest.raises(StageError, match="too short to weigh"):
        weighed(runner, models["llama"], job_of, ("One.", "Two."))


def test_it_is_the_same_again(
    runner: StageRunner, models: dict[str, Path], job_of: JobMaker, tmp_path: Path
) -> None:
    job = job_of(models["llama"], "q4_0")
    source = runner.run(convert_stage(job)).as_input("model.gguf")
    first = runner.run(importance_stage(job, source))
    other = StageInput(source.path, "another digest, so that it runs again")
    second = runner.run(importance_stage(job, other))
    assert second.key != first.key
    assert (first.path / "imatrix.gguf").read_bytes() == (second.path / "imatrix.gguf").read_bytes()
