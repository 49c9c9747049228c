"""What a generator is calibrated on: windows of text, with all that its graph takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from safetensors.numpy import save_file
from tiny_decoder import CONTEXT, PAST, byte_tokenizer, graph, write_folder

from edgeward.compiler.formats.onnx_samples import (
    MOST_WINDOWS,
    SAMPLES,
    WINDOW,
    read_samples,
    token_windows,
)
from edgeward.errors import UnsupportedError


def tokenizer(text: str) -> dict[str, list[int]]:
    return {"input_ids": byte_tokenizer().encode(text).ids}


@pytest.mark.parametrize("letters", [5, WINDOW, WINDOW + 1, WINDOW * 100])
def test_windows_are_the_text_in_parts_and_few(tmp_path: Path, letters: int) -> None:
    folder = write_folder(tmp_path / "model")
    windows = token_windows(folder, tokenizer, ["a" * letters])
    assert WINDOW < CONTEXT
    assert len(windows) == min(-(-letters // WINDOW), MOST_WINDOWS)
    assert sum(one["input_ids"].size for one in windows) == min(letters, WINDOW * MOST_WINDOWS)


def test_a_graph_runs_on_its_samples_as_often_as_it_likes(tmp_path: Path) -> None:
    model = write_folder(tmp_path / "model") / "onnx" / "model.onnx"
    windows = token_windows(tmp_path / "model", tokenizer, ["where is gate b12", "at noon"])
    save_file(
        {f"{n}.{name}": t for n, one in enumerate(windows) for name, t in one.items()},
        tmp_path / SAMPLES,
    )
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    give = read_samples(tmp_path, model)
    for _ in range(2):
        (sample,) = give()
        assert sample[PAST[0]].shape == (1, 1, 0, 1)
        assert sample["position_ids"][0, :3].tolist() == [0, 1, 2]
        assert np.isfinite(session.run(["logits"], sample)[0]).all()


def test_an_input_that_nothing_is_known_of_is_refused(tmp_path: Path) -> None:
    strange = graph()
    strange.graph.input.append(helper.make_tensor_value_info("memory", 1, [1]))
    onnx.save(strange, tmp_path / "model.onnx")
    save_file({"0.input_ids": np.array([[1, 2]])}, tmp_path / SAMPLES)
    with pytest.raises(UnsupportedError, match="cannot be calibrated") as caught:
        list(read_samples(tmp_path, tmp_path / "model.onnx")())
    assert "memory" in caught.value.why
