"""What would end the process inside llama.cpp, looked for before it sees a file.

llama.cpp answers most of what is wrong with an error, but some of a vocabulary with abort().
"""

from __future__ import annotations

from pathlib import Path

from edgeward.errors import EngineError, SourceError
from edgeward.runtimes.bundle.gguf_header import (
    GgufHeader,
    raw_texts,
    read_header,
    split_paths,
)

# llama_vocab::impl::load of llama.cpp.
TOKENIZERS = frozenset(
    ("llama", "bert", "gpt2", "t5", "rwkv", "plamo2", "gemma4", "hybriddna", "whitespace")
)
_WITH_MERGES = frozenset(("gpt2", "gemma4"))
# Llama.cpp reads these on its own without them where the model is one.
_MERGELESS = frozenset(("kimi-k2",))
_SPECIAL = ("bos", "eos", "unknown", "seperator", "padding", "mask")
TOKENS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"


def checked_header(path: Path) -> GgufHeader:
    """Return the header of a model's first file, all its files checked.

    Raises EngineError where one is damaged, missing, or holds what llama.cpp does not survive.
    """
    try:
        first, *others = [read_header(one) for one in split_paths(path)]
        names = [tensor.name for header in (first, *others) for tensor in header.tensors]
        problem = _problem_with(first) or _problem_with_files(first, len(others) + 1, names)
    except SourceError as error:
        raise EngineError(f"{path.name} cannot be loaded", why=_words(error)) from None
    if problem:
        raise EngineError(f"llama.cpp cannot load {path.name}", why=problem)
    return first


def _problem_with_files(first: GgufHeader, files: int, names: list[str]) -> str:
    stated = first.number("split.count") or 1
    if stated != files:
        return f"it is one of {stated} files, and its name tells of {files}"
    return "" if len(set(names)) == len(names) else "two of its files hold the same tensor"


def _problem_with(header: GgufHeader) -> str:
    if not header.architecture:
        return "it names no architecture"
    model = header.text("tokenizer.ggml.model")
    if model not in TOKENIZERS:
        return f"its tokenizer {model!r} is not one of {', '.join(sorted(TOKENIZERS))}"
    tokens = header.array(TOKENS)
    if tokens is None or not tokens.count:
        return "it has no vocabulary"
    mergeless = header.text("tokenizer.ggml.pre") in _MERGELESS
    if model in _WITH_MERGES and header.array(MERGES) is None and not mergeless:
        return "its tokenizer has no merges: whatever wrote it did not know this tokenizer"
    for name in _SPECIAL:
        token = header.number(f"tokenizer.ggml.{name}_token_id")
        if token is not None and not 0 <= token < tokens.count:
            return f"its {name} token is {token}, the vocabulary has {tokens.count}"
    if len(set(raw_texts(header, TOKENS))) != tokens.count:
        return "its vocabulary holds a token twice"
    return ""


def _words(error: SourceError) -> str:
    return f"{error.what}: {error.why}" if error.why else error.what
