"""Whole bundles of the tiny models, one a task, whose golden cases the models' own runs made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiny_decoder
import tiny_writer
from tiny_model import tiny_manifest, tiny_weights, write_tiny_model

from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.onnxruntime import open_model
from edgeward.runtimes.proof import generation, sequences, tensor_files
from edgeward.runtimes.proof.files import CASES_NAME
from edgeward.runtimes.proof.sketch import sketch
from edgeward.runtimes.tasks.generation import Generator
from edgeward.runtimes.tasks.text_to_text import TextToText
from edgeward.targets.load import load as load_profile

PROMPTS = ("gate b12", "where is the train", "x" * 60)
# What the planner asks of a configuration beside what the tiny decoder has.
PLANNED = {"num_hidden_layers": 1, "intermediate_size": 4, "vocab_size": tiny_decoder.VOCABULARY}


def decoder_bundle(place: Path) -> Bundle:
    """A text generator."""
    folder = tiny_decoder.write_folder(place.parent / f".{place.name}-model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **PLANNED}))
    engine = open_model(folder / "onnx" / "model.onnx", EngineOptions(threads=1))
    generator = Generator(folder, engine)
    generation.write_cases(folder, [_case(generator, text) for text in PROMPTS])
    return packed(place, folder, "text-generation", cases=len(PROMPTS))


def writer_bundle(place: Path, **generation: object) -> Bundle:
    """An encoder with a decoder."""
    folder = tiny_writer.write_folder(place.parent / f".{place.name}-model", **generation)
    parts = {"encoder": folder / "onnx" / "encoder.onnx"}
    engine = open_model(folder / "onnx" / "model.onnx", EngineOptions(threads=1, parts=parts))
    task = TextToText(folder, engine)
    sequences.write_cases(folder, [_written(task, text) for text in PROMPTS])
    changes = {"parts": {"encoder": "onnx/encoder.onnx"}}
    return packed(place, folder, "text2text-generation", cases=len(PROMPTS), changes=changes)


def tensor_bundle(place: Path) -> Bundle:
    """The tiny encoder, for a task that no class serves: used through `run`, proved by tensors."""
    folder = place.parent / f".{place.name}-model"
    write_tiny_model(folder, tiny_weights())
    engine = open_model(folder / "onnx" / "model.onnx", EngineOptions(threads=1))
    cases = []
    for ids in ([2, 4, 3], [2, 4, 5, 6, 3], [2, 4, 5, 6, 7, 8, 3]):
        row = np.array([ids], np.int64)
        inputs = {"input_ids": row, "attention_mask": np.ones_like(row)}
        outputs = {name: sketch(value) for name, value in engine.run(inputs).items()}
        cases.append(tensor_files.TensorCase(f"{len(ids)} tokens", inputs, outputs))
    tensor_files.write_cases(folder, tensor_files.TensorCases(tuple(cases), {}))
    return packed(place, folder, "features", cases=len(cases))


def packed(
    place: Path, folder: Path, task: str, *, cases: int, changes: dict[str, Any] | None = None
) -> Bundle:
    """Write a folder as a bundle."""
    profile = load_profile("x86-64-cpu")
    with writing_bundle(place) as writer:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            writer.add(path.relative_to(folder).as_posix(), path)
        files = [entry.model_dump(mode="json") for entry in writer.files()]
        golden = {"path": CASES_NAME, "cases": cases, "tolerances": []} if cases else None
        document = tiny_manifest(files, profile.name, profile.digest)
        own = {"task": task, "name": place.name, "golden": golden}
        writer.write_manifest({**document, **own, **(changes or {})})
    return open_bundle(place)


def _case(generator: Generator, text: str) -> generation.GenerationCase:
    ids = generator.encode(text)
    greedy = generator.continued(ids, 4)
    return generation.generation_case(text[:5], text, ids, generator.logits(ids), greedy, tokens=8)


def _written(task: TextToText, text: str) -> sequences.SequenceCase:
    inputs = task.inputs(text)
    ids: Sequence[int] = task.continued(inputs, task.rules(inputs), 6)
    written = [tiny_writer.START, *ids]
    logits = task.graph.read(inputs).logits(written)
    case = generation.generation_case(text[:5], text, written, logits, ids, tokens=4)
    source = tuple(int(each) for each in inputs["input_ids"][0])
    return sequences.SequenceCase(case, 1, text, source)
