"""A real but tiny encoder and decoder: two ONNX graphs, a tokenizer of bytes.

The likeliest token is a function of the sum of all that was read and of all that was written: a
source that is read wrongly, or a cache that is lost or doubled, changes every token after it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_decoder import END, VOCABULARY, byte_tokenizer

START = 1
PAST = ("past_key_values.0.decoder.key", "past_key_values.0.decoder.value")
CROSSED = ("past_key_values.0.encoder.key", "past_key_values.0.encoder.value")


def present(name: str) -> str:
    """The output that belongs to a past."""
    return name.replace("past_key_values", "present")


def following(source: Sequence[int], ids: Sequence[int]) -> int:
    """What the graphs find likeliest, computed without them."""
    return (7 * (sum(source) + sum(ids)) + 1) % VOCABULARY


def write_folder(folder: Path, **generation: object) -> Path:
    """Write config, tokenizer and both graphs."""
    (folder / "onnx").mkdir(parents=True)
    config = {"model_type": "t5", "decoder_start_token_id": START, "eos_token_id": END}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(_encoder(), folder / "onnx" / "encoder.onnx")
    onnx.save(_decoder(), folder / "onnx" / "model.onnx")
    return folder


def _encoder() -> onnx.ModelProto:
    make = helper.make_node
    read = ["batch", "encoder_sequence"]
    nodes = [
        make("Mul", ["input_ids", "attention_mask"], ["seen"]),
        make("Cast", ["seen"], ["ids"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["ids", "head_axes"], [present(CROSSED[0])]),
        make("Identity", [present(CROSSED[0])], [present(CROSSED[1])]),
    ]
    inputs = [_whole(name, read) for name in ("input_ids", "attention_mask")]
    outputs = [_states(present(name), read[1]) for name in CROSSED]
    return _model(nodes, inputs, outputs, {"head_axes": np.array([1, 3])})


def _decoder() -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["ids", "head_axes"], ["new"]),
        *(make("Concat", [name, "new"], [present(name)], axis=2) for name in PAST),
        make("CumSum", [present(PAST[1]), "two"], ["sums"]),
        make("Shape", [PAST[0]], ["begin"], start=2, end=3),
        make("Slice", ["sums", "begin", "far", "axis_two"], ["recent"]),
        make("ReduceSum", [CROSSED[1], "axis_two"], ["read"], keepdims=1),
        make("Add", ["recent", "read"], ["both"]),
        make("Squeeze", ["both", "head_axes"], ["sum"]),
        make("Mul", ["sum", "seven"], ["times"]),
        make("Add", ["times", "one"], ["raised"]),
        make("Mod", ["raised", "vocabulary"], ["wanted"], fmod=1),
        make("Unsqueeze", ["wanted", "last"], ["column"]),
        make("Sub", ["every", "column"], ["apart"]),
        make("Abs", ["apart"], ["distance"]),
        make("Neg", ["distance"], ["logits"]),
    ]
    constants = {
        "head_axes": np.array([1, 3]),
        "two": np.array(2),
        "axis_two": np.array([2]),
        "far": np.array([2**31]),
        "last": np.array([-1]),
        "seven": np.array(7, np.float32),
        "one": np.array(1, np.float32),
        "vocabulary": np.array(VOCABULARY, np.float32),
        "every": np.arange(VOCABULARY, dtype=np.float32),
    }
    inputs = [
        _whole("input_ids", ["batch", "sequence"]),
        _whole("encoder_attention_mask", ["batch", "encoder_sequence"]),
        *(_states(name, "past") for name in PAST),
        *(_states(name, "encoder_sequence") for name in CROSSED),
    ]
    shape = ["batch", "sequence", VOCABULARY]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
    outputs += [_states(present(name), "total") for name in PAST]
    return _model(nodes, inputs, outputs, constants)


def _whole(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)


def _states(name: str, length: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, length, 1])


def _model(nodes: Any, inputs: Any, outputs: Any, constants: dict[str, Any]) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
