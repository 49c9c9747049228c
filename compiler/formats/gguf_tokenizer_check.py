"""Whether the converter knew the tokenizer: it may write a wrong one and say so in its log alone.

What it wrote is held to the original's token ids afterwards (`gguf_vocabulary.py`); this tells at
once, and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeward.errors import UnsupportedError
from edgeward.runtimes.bundle.gguf_header import GgufHeader

UNKNOWN = "pre-tokenizer was not recognized"
_MERGED = "gpt2"
_SENTENCEPIECE = "llama"
_UNTOLD = ("", "default")


def check_tokenizer(header: GgufHeader, folder: Path, warnings: Sequence[str]) -> None:
    """Raise UnsupportedError where the file's tokenizer cannot be that of the model's folder."""
    told = next((words for words in warnings if UNKNOWN in words), "")
    if told:
        raise unknown_tokenizer(told)
    problem = _problem_with(header, folder)
    if problem:
        raise unknown_tokenizer(problem)


def unknown_tokenizer(why: str) -> UnsupportedError:
    """Return the error for a tokenizer that the converter does not know."""
    return UnsupportedError(
        "llama.cpp's converter does not know this model's tokenizer",
        why=" ".join(why.replace("*", " ").split())[:500],
        next="edgeward compile … --format onnx (it packages the tokenizer itself)",
    )


def _problem_with(header: GgufHeader, folder: Path) -> str:
    model = header.text("tokenizer.ggml.model")
    tokens = header.array("tokenizer.ggml.tokens")
    if not model or tokens is None or not tokens.count:
        return "it wrote no tokenizer"
    if model == _SENTENCEPIECE and _is_byte_level(folder / "tokenizer.json"):
        return "it wrote a SentencePiece tokenizer of one that merges bytes"
    if model != _MERGED:
        return ""
    if header.array("tokenizer.ggml.merges") is None:
        return "it wrote a tokenizer that merges bytes without its merges"
    if header.text("tokenizer.ggml.pre") in _UNTOLD:
        return "it wrote no way to cut a text before bytes are merged"
    return ""


def _is_byte_level(path: Path) -> bool:
    """Whether a tokenizer.json merges bytes: its alphabet is GPT-2's stand-ins for them."""
    if not path.is_file():
        return False
    document = json.loads(path.read_text(encoding="utf-8"))
    merges = (document.get("model") or {}).get("type") == "BPE"
    steps = [*_steps(document.get("pre_tokenizer")), *_steps(document.get("decoder"))]
    return merges and any(step.get("type") == "ByteLevel" for step in steps)


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(part, dict):
        return
    yield part
    for name in ("pretokenizers", "decoders"):
        for inner in part.get(name) or ():
            yield from _steps(inner)
