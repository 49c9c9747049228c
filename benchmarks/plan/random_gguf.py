"""Random weights in the shape of a published Llama, as a GGUF file: its speed is the model's own.

The package `gguf` is needed (it comes with the toolchain of that name). A file has no vocabulary:
what runs it gives token ids.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.engines.llama_native import library

ARCHITECTURE = "llama"
# A block of random numbers is written again and again: making billions of them takes minutes.
BLOCK = 1 << 20


def write_half(config: Mapping[str, Any], path: Path) -> None:
    """Write matrices as float16 and norms as float32; ValueError for another architecture."""
    import gguf

    if config["model_type"] != ARCHITECTURE:
        raise ValueError(f"{config['model_type']} is not {ARCHITECTURE}")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    wide = config.get("head_dim") or hidden // heads
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_tokenizer_model("none")
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
    yield "output_norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "output.weight", (vocabulary, hidden)


def _numbers(shape: tuple[int, ...]) -> NDArray[Any]:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    block = np.random.default_rng(0).normal(0, shape[1] ** -0.5, BLOCK).astype(np.float16)
    count = shape[0] * shape[1]
    return np.resize(block, count).reshape(shape)
