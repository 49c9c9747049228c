"""What lies beside the weights: configuration, tokenizer's settings, template, pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeward.errors import SourceError
from edgeward.runtimes.tasks.pooling import required_files

from .dequantise_gguf_config import model_config
from .dequantise_gguf_tokenizer import (
    read_vocabulary,
    special_ids,
    stop_ids,
    tokenizer_settings,
)
from .source_gguf_header import GgufHeader

WRITER_VERSION = 1
_POOLING = {1: "mean", 2: "cls", 3: "lasttoken"}
_STEPS = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_BESIDE = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "README.md",
)


def beside_files(folder: Path) -> list[str]:
    """Return what is taken over from a folder that is a model's own but for its weights."""
    if not (folder / "config.json").is_file():
        return []
    return [name for name in (*_BESIDE, *required_files(folder)) if (folder / name).is_file()]


def write_small_files(header: GgufHeader, out: Path, beside: Path | None) -> dict[str, Any]:
    """Write everything but tokenizer.json and the weights; return the configuration.

    What stands in `beside` is left to it. Raises SourceError where its configuration is of another
    model, UnsupportedError where the file's model cannot be written.
    """
    config = _configuration(header, beside)
    documents: dict[str, Any] = {"config.json": config}
    if beside is None or not beside_files(beside):
        documents |= _from_metadata(header, config)
    for name, document in documents.items():
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(document, str):
            place.write_text(document, encoding="utf-8")
        else:
            text = json.dumps(document, indent=1, ensure_ascii=False)
            place.write_text(text + "\n", encoding="utf-8")
    return config


def _configuration(header: GgufHeader, beside: Path | None) -> dict[str, Any]:
    made = model_config(header)
    if beside is None or not beside_files(beside):
        return {**made, **_roles(header, made)}
    given = json.loads((beside / "config.json").read_text(encoding="utf-8"))
    same = {made["model_type"], "mistral" if made["model_type"] == "llama" else ""}
    if given.get("model_type") not in same:
        raise SourceError(
            f"{beside}/config.json is of another model than {header.path.name}",
            why=f"{str(given.get('model_type'))[:60]} beside {made['model_type']}",
        )
    given.pop("quantization_config", None)
    return {
        **given,
        "dtype": "float32",
        "tie_word_embeddings": made.get("tie_word_embeddings", True),
    }


def _roles(header: GgufHeader, config: dict[str, Any]) -> dict[str, int]:
    vocabulary = read_vocabulary(header)
    if len(vocabulary.tokens) > config["vocab_size"]:
        raise SourceError(
            f"{header.path} has more tokens than rows in its embedding",
            why=f"{len(vocabulary.tokens)} beside {config['vocab_size']}",
        )
    return special_ids(vocabulary)


def _from_metadata(header: GgufHeader, config: dict[str, Any]) -> dict[str, Any]:
    vocabulary = read_vocabulary(header)
    documents: dict[str, Any] = {"tokenizer_config.json": tokenizer_settings(vocabulary)}
    if template := header.text("tokenizer.chat_template"):
        documents["chat_template.jinja"] = template
    if config["model_type"] == "bert":
        return {**documents, **_sentence_files(header, config)}
    stops = stop_ids(header, vocabulary)
    ends = {"eos_token_id": stops[0] if len(stops) == 1 else stops} if stops else {}
    return {**documents, "generation_config.json": {**special_ids(vocabulary), **ends}}


def _sentence_files(header: GgufHeader, config: dict[str, Any]) -> dict[str, Any]:
    """sentence-transformers' files; what serves GGUF gives vectors of length 1."""
    kind = _POOLING.get(header.integer("bert.pooling_type", 0))
    if kind is None:
        return {}
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{step}"}
        for n, (path, step) in enumerate(_STEPS)
    ]
    pooling = {"word_embedding_dimension": config["hidden_size"]}
    pooling |= {flag: mode == kind for mode, flag in _FLAGS.items()}
    longest = {"max_seq_length": config["max_position_embeddings"], "do_lower_case": False}
    return {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": longest,
    }
