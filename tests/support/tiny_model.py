"""A real but tiny encoder: an ONNX graph of a dozen nodes, a word tokenizer, a whole bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle
from edgeward.runtimes.proof.files import CASES_NAME
from edgeward.runtimes.proof.vectors import GoldenCases, write_cases
from edgeward.targets.load import load as load_profile

SENTENCE = "where is gate b12 the train leaves at noon"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *SENTENCE.split()]
TEXTS = ("", "gate", "where is gate b12", "the train leaves at noon", "unknown words here")
WIDTH = 8


def tiny_weights(seed: int = 0) -> NDArray[np.float32]:
    """The token vectors (words, width)."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal((len(WORDS), WIDTH)).astype(np.float32)


def write_tiny_model(folder: Path, weights: NDArray[np.float32]) -> None:
    """Write config, tokenizer, sentence-transformers files and `onnx/model.onnx`."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
        {
            "idx": 2,
            "name": "2",
            "path": "2_Normalize",
            "type": "sentence_transformers.models.Normalize",
        },
    ]
    settings: dict[str, Any] = {
        "config.json": {"model_type": "bert", "hidden_size": WIDTH, "max_position_embeddings": 16},
        "tokenizer_config.json": {"pad_token": "[PAD]", "model_max_length": 16},
        "modules.json": modules,
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
    }
    for name, document in settings.items():
        (folder / name).write_text(json.dumps(document))
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(tiny_graph(weights), str(folder / "onnx" / "model.onnx"))


def tiny_tokenizer() -> Tokenizer:
    """A word tokenizer with BERT's frame."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def tiny_graph(weights: NDArray[np.float32]) -> onnx.ModelProto:
    """Token vectors, cut to zero where the mask is zero."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "sequence"])
    hidden = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", WIDTH]
    )
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["last_hidden_state"]),
    ]
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([-1], np.int64), "last"),
    ]
    graph = helper.make_graph(nodes, "tiny", [ids, mask], [hidden], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def tiny_cases(weights: NDArray[np.float32]) -> GoldenCases:
    """The golden vectors, computed here from the weights alone."""
    encoded = [tiny_tokenizer().encode(text).ids for text in TEXTS]
    pooled = np.stack([weights[ids].mean(axis=0) for ids in encoded])
    vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return GoldenCases(TEXTS, vectors.astype(np.float32), tuple(tuple(ids) for ids in encoded))


def make_tiny_bundle(
    destination: Path,
    *,
    target: str = "x86-64-cpu",
    seed: int = 0,
    noise: float = 0.0,
    changes: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a whole bundle; `noise` perturbs the artifact's weights but not its golden vectors."""
    weights = tiny_weights(seed)
    spoiled = weights + noise * np.random.default_rng(99).standard_normal(weights.shape)
    profile = load_profile(target)
    scratch = destination.parent / f".{destination.name}-model"
    write_tiny_model(scratch, spoiled.astype(np.float32))
    write_cases(scratch, [f"case {n}" for n in range(len(TEXTS))], tiny_cases(weights))
    with writing_bundle(destination) as writer:
        for path in sorted(p for p in scratch.rglob("*") if p.is_file()):
            writer.add(path.relative_to(scratch).as_posix(), path)
        files = [entry.model_dump(mode="json") for entry in writer.files()]
        document = tiny_manifest(files, profile.name, profile.digest)
        writer.write_manifest({**document, **(changes or {})})
    return open_bundle(destination)


def tiny_manifest(files: list[dict[str, Any]], target: str, digest: str) -> dict[str, Any]:
    """The manifest of a tiny bundle."""
    bounds = [
        {"metric": "cosine_min", "value": 1.0, "bound": 0.99, "direction": "at-least"},
        {"metric": "token_ids_equal", "value": 1.0, "bound": 1.0, "direction": "at-least"},
    ]
    axes = ["batch", "sequence"]
    return {
        "schema_version": "1.0",
        "name": "tiny",
        "task": "feature-extraction",
        "entry": "onnx/model.onnx",
        "source": {"id": "tiny", "architecture": "BertModel", "weights_sha256": "0" * 64},
        "target": {"name": target, "digest": digest},
        "recipe": {"format": "onnx", "precision": "fp32"},
        "files": files,
        "inputs": [
            {"name": n, "dtype": "int64", "shape": axes} for n in ("input_ids", "attention_mask")
        ],
        "outputs": [{"name": "last_hidden_state", "dtype": "float", "shape": [*axes, WIDTH]}],
        "proof": {
            "verified": "engine",
            "engine": {"name": "onnxruntime", "version": "1.32.0"},
            "checks": bounds,
        },
        "golden": {"path": CASES_NAME, "cases": len(TEXTS), "tolerances": bounds},
        "performance": {"measured": {"latency_p50_ms": 0.1, "peak_memory_bytes": 1e8}},
    }
