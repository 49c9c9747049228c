"""Whole tiny bundles of most tasks: graphs that look answers up by token, by colour, by loudness.

What each must answer follows from its table, so that it can be told without running it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_decoder import write_folder as write_decoder
from tiny_model import WORDS, tiny_tokenizer
from tokenizers import processors

from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle

ENTRY = "onnx/model.onnx"
RATE, FRAME, STEP = 16_000, 160, 0.1
LETTERS = ("<pad>", "|", "a", "b", "c")
Table = Mapping[str, Sequence[float]]


def task_bundle(destination: Path, task: str, folder: Path) -> Bundle:
    """Write a bundle of a folder's files; its graph is at ENTRY."""
    with writing_bundle(destination) as writer:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            writer.add(path.relative_to(folder).as_posix(), path)
        writer.write_manifest(
            {
                "schema_version": "1.0",
                "name": destination.name,
                "task": task,
                "entry": ENTRY,
                "source": {"id": "tiny", "architecture": "Tiny", "weights_sha256": "0" * 64},
                "target": {"name": "x86-64-cpu", "digest": "0" * 64},
                "recipe": {"format": "onnx", "precision": "fp32"},
                "files": [one.model_dump(mode="json") for one in writer.files()],
                "inputs": [],
                "outputs": [],
                "proof": {"verified": "engine", "checks": []},
            }
        )
    return open_bundle(destination)


def classifier(at: Path, table: Table, labels: Sequence[str], **config: object) -> Bundle:
    """Sums the rows of a text's words; other words have a row of zeros."""
    folder = _text_folder(at, labels, **config)
    nodes = [
        helper.make_node("Gather", ["logits_table", "input_ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "one"], ["logits"], keepdims=0),
    ]
    tables = {"logits_table": _rows(table), "one": np.array([1], np.int64)}
    _save_text_graph(folder, nodes, tables, {"logits": ["batch", len(next(iter(table.values())))]})
    return task_bundle(at, "text-classification", folder)


def tagger(at: Path, table: Table, labels: Sequence[str]) -> Bundle:
    """Each word has the class of its own row."""
    folder = _text_folder(at, labels)
    nodes = [helper.make_node("Gather", ["logits_table", "input_ids"], ["logits"])]
    shape: list[Any] = ["batch", "sequence", len(labels)]
    _save_text_graph(folder, nodes, {"logits_table": _rows(table)}, {"logits": shape})
    return task_bundle(at, "token-classification", folder)


def answerer(at: Path, starts: str, ends: str) -> Bundle:
    """The answer begins at the word `starts` and ends at the word `ends`."""
    folder = _text_folder(at, ())
    named = {"start": {starts: [9.0]}, "end": {ends: [9.0]}}
    nodes = [
        helper.make_node("Gather", [f"{name}_table", "input_ids"], [f"{name}_logits"])
        for name in named
    ]
    tables = {f"{name}_table": _rows(table)[:, 0] for name, table in named.items()}
    outputs: dict[str, list[Any]] = {f"{name}_logits": ["batch", "sequence"] for name in named}
    _save_text_graph(folder, nodes, tables, outputs)
    return task_bundle(at, "question-answering", folder)


def colours(at: Path) -> Bundle:
    """The class of a picture is its strongest colour: red, green or blue."""
    folder = _picture_folder(at)
    nodes = [helper.make_node("ReduceMean", ["pixel_values", "sides"], ["logits"], keepdims=0)]
    inputs = [_floats("pixel_values", ["batch", 3, 8, 8])]
    sides = {"sides": np.array([2, 3], np.int64)}
    _save(folder, nodes, inputs, [_floats("logits", ["batch", 3])], sides)
    return task_bundle(at, "image-classification", folder)


def watcher(at: Path) -> Bundle:
    """Finds in each half of a picture its strongest colour, where that is strong at all."""
    folder = _picture_folder(at)
    make = helper.make_node
    halves = []
    for side in ("left", "right"):
        halves += [
            make("Slice", ["pixel_values", f"{side}_from", f"{side}_to", "columns"], [side]),
            make("ReduceMean", [side, "sides"], [f"{side}_colours"], keepdims=0),
            make("Unsqueeze", [f"{side}_colours", "queries"], [f"{side}_query"]),
        ]
    nodes = [
        *halves,
        make("Concat", ["left_query", "right_query"], ["colours"], axis=1),
        make("Mul", ["colours", "strength"], ["objects"]),
        make("Concat", ["objects", "nothing"], ["logits"], axis=2),
        make("Identity", ["places"], ["pred_boxes"]),
    ]
    numbers = {"left_from": 0, "left_to": 4, "right_from": 4, "right_to": 8}
    numbers |= {"columns": 3, "queries": 1}
    constants = {
        **{name: np.array([value], np.int64) for name, value in numbers.items()},
        "sides": np.array([2, 3], np.int64),
        "strength": np.array([20], np.float32),
        "nothing": np.full((1, 2, 1), 10, np.float32),
        "places": np.array([[[0.25, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 1]]], np.float32),
    }
    outputs = [_floats("logits", [1, 2, 4]), _floats("pred_boxes", [1, 2, 4])]
    _save(folder, nodes, [_floats("pixel_values", [1, 3, 8, 8])], outputs, constants)
    return task_bundle(at, "object-detection", folder)


def painter(at: Path) -> Bundle:
    """The class of a pixel is its strongest colour."""
    folder = _picture_folder(at)
    nodes = [helper.make_node("Identity", ["pixel_values"], ["logits"])]
    shape = ["batch", 3, 8, 8]
    _save(folder, nodes, [_floats("pixel_values", shape)], [_floats("logits", shape)], {})
    return task_bundle(at, "semantic-segmentation", folder)


def _picture_folder(at: Path) -> Path:
    folder = at.parent / f".{at.name}-model"
    (folder / "onnx").mkdir(parents=True)
    settings = {"do_normalize": False, "size": {"height": 8, "width": 8}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    _config(folder, ("red", "green", "blue"))
    return folder


def listener(at: Path) -> Bundle:
    """Hears LETTERS[n] where a sound is as loud as n times STEP, frame by frame."""
    folder = at.parent / f".{at.name}-model"
    (folder / "onnx").mkdir(parents=True)
    _config(folder, ())
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    vocabulary = {letter: number for number, letter in enumerate(LETTERS)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    make = helper.make_node
    nodes = [
        make("Reshape", ["input_values", "frames"], ["framed"]),
        make("ReduceMean", ["framed", "last"], ["loudness"], keepdims=1),
        make("Sub", ["loudness", "steps"], ["apart"]),
        make("Abs", ["apart"], ["distance"]),
        make("Neg", ["distance"], ["logits"]),
    ]
    constants = {
        "frames": np.array([1, -1, FRAME], np.int64),
        "last": np.array([2], np.int64),
        "steps": np.arange(len(LETTERS), dtype=np.float32) * np.float32(STEP),
    }
    outputs = [_floats("logits", [1, "frames", len(LETTERS)])]
    _save(folder, nodes, [_floats("input_values", [1, "samples"])], outputs, constants)
    return task_bundle(at, "ctc", folder)


def decoder(at: Path) -> Bundle:
    """What tiny_decoder writes."""
    folder = write_decoder(at.parent / f".{at.name}-model")
    return task_bundle(at, "text-generation", folder)


def say(path: Path, text: str) -> Path:
    """Write a WAV file in which the listener hears a text of a, b, c and spaces."""
    numbers = [LETTERS.index("|" if letter == " " else letter) for letter in text]
    levels = np.repeat([level for number in numbers for level in (number, 0)], FRAME) * STEP
    body = np.round(levels * 32767).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(body)) + body
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
    return path


def _text_folder(at: Path, labels: Sequence[str], **config: object) -> Path:
    folder = at.parent / f".{at.name}-model"
    (folder / "onnx").mkdir(parents=True)
    _config(folder, labels, **config)
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"pad_token": "[PAD]", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def _config(folder: Path, labels: Sequence[str], **config: object) -> None:
    named = {"id2label": {str(n): label for n, label in enumerate(labels)}} if labels else {}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **named, **config}))


def _rows(table: Table) -> NDArray[np.float32]:
    rows = np.zeros((len(WORDS), len(next(iter(table.values())))), np.float32)
    for word, values in table.items():
        rows[WORDS.index(word)] = values
    return rows


def _save_text_graph(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, Sequence[Any]],
) -> None:
    axes = ["batch", "sequence"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, axes)
        for name in ("input_ids", "attention_mask")
    ]
    _save(folder, nodes, inputs, [_floats(n, shape) for n, shape in outputs.items()], constants)


def _floats(name: str, shape: Sequence[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _save(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, NDArray[Any]],
) -> None:
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), stored)
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / ENTRY)
