"""TFLite files read without trust: what they hold, and what is refused of damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tflite import tiny_tflite, write_tiny

from edgeward.errors import EngineError
from edgeward.runtimes.engines.litert import checked
from edgeward.runtimes.engines.litert_file import parse_tflite, read_tflite

SHAPES = {"serving_default": [2, 3], "short": [1, 3]}
WHOLE = tiny_tflite(SHAPES)


def test_a_file_tells_its_graphs_and_signatures(tmp_path: Path) -> None:
    told = read_tflite(write_tiny(tmp_path / "a.tflite", SHAPES))
    assert [one.name for one in told.signatures] == list(SHAPES)
    graph = told.graphs[told.signatures[1].graph]
    assert graph.tensors[told.signatures[1].inputs["x"]].shape == (1, 3)
    assert [(one.name, one.inputs, one.outputs) for one in graph.operators] == [
        ("ADD", (0, 1), (2,))
    ]
    assert [tensor.constant for tensor in graph.tensors] == [False, True, False]
    assert graph.tensors[1].dtype == "float32"


def test_integers_tell_their_scales() -> None:
    told = parse_tflite(memoryview(tiny_tflite(SHAPES, integers=True)))
    assert {tensor.dtype for tensor in told.graphs[0].tensors} == {"int8"}
    assert all(tensor.scales == 1 for tensor in told.graphs[0].tensors)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"not a model at all, but long enough", "no TFLite file"),
        (WHOLE[:4] + b"ONNX" + WHOLE[8:], "no TFLite file"),
        (struct.pack("<I", 1 << 30) + WHOLE[4:], "damaged"),
        (WHOLE[: len(WHOLE) // 2], "damaged"),
        (tiny_tflite(SHAPES, constant=b"\0" * 7), "damaged"),
        (tiny_tflite({}), "damaged"),
        (tiny_tflite({"a": [-1, 3]}), "damaged"),
    ],
)
def test_what_is_no_whole_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=words):
        read_tflite(path)


def test_a_constant_of_another_size_is_told_with_its_bytes() -> None:
    with pytest.raises(EngineError) as caught:
        parse_tflite(memoryview(tiny_tflite(SHAPES, constant=b"\0" * 7)))
    assert "one has 7 bytes, its shape needs 4" in caught.value.why


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        read_tflite(tmp_path / "none.tflite")


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
def test_whatever_is_written_over_it_is_read_or_refused(at: int, content: bytes) -> None:
    spoiled = WHOLE[:at] + content + WHOLE[at + len(content) :]
    try:
        told = parse_tflite(memoryview(spoiled))
    except EngineError as error:
        assert str(error)
    else:
        assert told.graphs


@given(st.integers(0, len(WHOLE) - 1))
def test_whatever_is_cut_off_is_read_or_refused(length: int) -> None:
    try:
        parse_tflite(memoryview(WHOLE[:length]))
    except EngineError as error:
        assert str(error)


def test_an_input_of_no_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no size"):
        checked(write_tiny(tmp_path / "a.tflite", {"a": [0, 3]}))
