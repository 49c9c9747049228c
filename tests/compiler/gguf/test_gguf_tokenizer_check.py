"""A converter that did not know a tokenizer is caught, whatever way it failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import METADATA, tiny_gguf

from edgeward.compiler.formats.gguf_tokenizer_check import check_tokenizer
from edgeward.errors import UnsupportedError
from edgeward.runtimes.bundle.gguf_header import GgufHeader, read_header

BYTES = {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel"}}
SPLIT_BYTES = {
    "model": {"type": "BPE"},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Split"}, {"type": "ByteLevel"}],
    },
}
PIECES = {"model": {"type": "BPE"}, "decoder": {"type": "Sequence", "decoders": []}}
KNOWN = {**METADATA, "tokenizer.ggml.pre": "smollm"}


def header(folder: Path, **changed: Any) -> GgufHeader:
    told = {key: value for key, value in {**KNOWN, **changed}.items() if value is not None}
    return read_header(tiny_gguf(folder / "model.gguf", told))


def write_tokenizer(folder: Path, document: Any) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(document))


@pytest.mark.parametrize("document", [BYTES, SPLIT_BYTES, PIECES])
def test_a_tokenizer_that_was_known_passes(tmp_path: Path, document: Any) -> None:
    write_tokenizer(tmp_path, document)
    check_tokenizer(header(tmp_path), tmp_path, ["a warning of something else"])


def test_pieces_of_words_need_no_merges(tmp_path: Path) -> None:
    changed = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.merges": None}
    check_tokenizer(header(tmp_path, **changed), tmp_path, [])
    write_tokenizer(tmp_path, PIECES)
    check_tokenizer(header(tmp_path, **changed), tmp_path, [])


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"tokenizer.ggml.merges": None}, "without its merges"),
        ({"tokenizer.ggml.pre": None}, "no way to cut a text"),
        ({"tokenizer.ggml.pre": "default"}, "no way to cut a text"),
        ({"tokenizer.ggml.model": None}, "no tokenizer"),
        ({"tokenizer.ggml.tokens": None}, "no tokenizer"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.merges": None}, "SentencePiece"),
    ],
)
@pytest.mark.parametrize("document", [BYTES, SPLIT_BYTES])
def test_a_wrong_tokenizer_is_refused(
    tmp_path: Path, changed: dict[str, Any], why: str, document: Any
) -> None:
    write_tokenizer(tmp_path, document)
    with pytest.raises(UnsupportedError, match="does not know this model's tokenizer") as error:
        check_tokenizer(header(tmp_path, **changed), tmp_path, [])
    assert why in error.value.why


def test_a_warning_is_enough(tmp_path: Path) -> None:
    warnings = ["** WARNING: The BPE pre-tokenizer was not recognized!"]
    with pytest.raises(UnsupportedError) as error:
        check_tokenizer(header(tmp_path), tmp_path, warnings)
    assert error.value.why == "WARNING: The BPE pre-tokenizer was not recognized!"
