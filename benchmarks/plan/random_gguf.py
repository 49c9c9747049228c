"""Random weights in the shape of a published model, as a GGUF file: its speed is the model's own.

The package `gguf` is needed (it comes with the toolchain of that name). Llama, Qwen2 and Gemma are
known. A file has no vocabulary, then what runs it gives token ids; or one of small letters.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.engines.llama_native import library

ARCHITECTURES = ("llama", "qwen2", "gemma")
# A block of random numbers is written again and again: making billions of them takes minutes.
BLOCK = 1 << 20
_LETTERS = 26
_SHORTEST = 4
_NORMAL = 1


def write_half(config: Mapping[str, Any], path: Path, words: Sequence[str] = ()) -> None:
    """Write matrices as float16 and the rest as float32; ValueError for another architecture."""
    import gguf

    architecture = config["model_type"]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"{architecture} is none of {', '.join(ARCHITECTURES)}")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    wide = config.get("head_dim") or hidden // heads
    writer = gguf.GGUFWriter(path, architecture)
    _add_vocabulary(writer, words)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads", heads))
    writer.add_rope_dimension_count(wide)
    writer.add_key_length(wide)
    writer.add_value_length(wide)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, shape in _tensors(config, hidden, wide):
        writer.add_tensor(name, _numbers(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def round_to(half: Path, path: Path, kind: str, threads: int) -> None:
    """Have llama.cpp round a file's matrices, to one of its `LLAMA_FTYPE_MOSTLY_*`."""
    module = library()
    params = module.llama_model_quantize_default_params()
    params.ftype = getattr(module, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
    params.nthread = threads
    if module.llama_model_quantize(str(half).encode(), str(path).encode(), ctypes.byref(params)):
        raise RuntimeError(f"llama.cpp did not round {half.name} to {kind}")


def words_of(count: int) -> list[str]:
    """Return so many words of four and more letters, each another."""
    return [_word(number) for number in range(count)]


def pairs_of(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the two halves of each word: its merge."""
    return [(word[: len(word) // 2], word[len(word) // 2 :]) for word in words]


def _word(number: int) -> str:
    letters = ""
    while number or len(letters) < _SHORTEST:
        number, letter = divmod(number, _LETTERS)
        letters += chr(ord("a") + letter)
    return letters


def _add_vocabulary(writer: Any, words: Sequence[str]) -> None:
    if not words:
        writer.add_tokenizer_model("none")
        return
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([_NORMAL] * len(words))
    writer.add_token_merges([" ".join(pair) for pair in pairs_of(words)])


def _tensors(
    config: Mapping[str, Any], hidden: int, wide: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    queries = config["num_attention_heads"] * wide
    keys = config.get("num_key_value_heads", config["num_attention_heads"]) * wide
    between, vocabulary = config["intermediate_size"], config["vocab_size"]
    yield "token_embd.weight", (vocabulary, hidden)
    for layer in range(config["num_hidden_layers"]):
        for name, shape in (
            ("attn_norm", (hidden,)),
            ("attn_q", (queries, hidden)),
            ("attn_k", (keys, hidden)),
            ("attn_v", (keys, hidden)),
            ("attn_output", (hidden, queries)),
            ("ffn_norm", (hidden,)),
            ("ffn_gate", (between, hidden)),
            ("ffn_up", (between, hidden)),
            ("ffn_down", (hidden, between)),
        ):
            yield f"blk.{layer}.{name}.weight", shape
        if config["model_type"] == "qwen2":
            for name, rows in (("attn_q", queries), ("attn_k", keys), ("attn_v", keys)):
                yield f"blk.{layer}.{name}.bias", (rows,)
    yield "output_norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "output.weight", (vocabulary, hidden)


def _numbers(shape: tuple[int, ...]) -> NDArray[Any]:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    block = np.random.default_rng(0).normal(0, shape[1] ** -0.5, BLOCK).astype(np.float16)
    count = shape[0] * shape[1]
    return np.resize(block, count).reshape(shape)
