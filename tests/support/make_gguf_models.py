"""Writes tiny random models whose tokenizer llama.cpp knows; run with the `gguf` toolchain.

usage: make_gguf_models.py FOLDER TOKENIZER NAME... TOKENIZER is a model's folder with a tokenizer
of bytes, another for `bert` lies beside it in `wordpiece`. Each lies in FOLDER/NAME. `unknown` has
a tokenizer that no converter knows; `sharded` is larger, in bfloat16, in several files.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from make_decoders import write_tokenizer
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
}
SHARED = {**SIZES, "num_key_value_heads": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
WIDE = {**SHARED, "hidden_size": 256, "intermediate_size": 512}
LARGE = {
    **SHARED,
    "hidden_size": 768,
    "intermediate_size": 8192,
    "num_hidden_layers": 10,
    "max_position_embeddings": 512,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", SIZES),
    "gpt2": ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_ctx": 512}),
    "granite": ("granite", SHARED),
    "llama": ("llama", SHARED),
    "mixtral": ("mixtral", {**SHARED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmo2": ("olmo2", SHARED),
    "smollm3": ("smollm3", SHARED),
    "qwen3_moe": ("qwen3_moe", {**SHARED, "head_dim": 16, **EXPERTS}),
    "sharded": ("llama", LARGE),
    "starcoder2": ("starcoder2", SHARED),
    "unknown": ("llama", SHARED),
    "wide": ("llama", WIDE),
    "wide_olmo2": ("olmo2", WIDE),
}


def write(folder: Path, tokenizer: Path, name: str) -> None:
    """Write one model."""
    model_type, settings = MODELS[name]
    folder.mkdir(parents=True)
    if name == "unknown":
        ids = write_tokenizer(folder)
    else:
        ids = copy_tokenizer(tokenizer / "wordpiece" if name == "bert" else tokenizer, folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**settings, **ids})
    kind = torch.bfloat16 if name == "sharded" else torch.float32
    made = AutoModel if name == "bert" else AutoModelForCausalLM
    model = made.from_config(config, dtype=kind)
    shards = {"max_shard_size": "250MB"} if name == "sharded" else {}
    model.save_pretrained(folder, **shards)


def copy_tokenizer(tokenizer: Path, folder: Path) -> dict[str, int]:
    """Copy it; returns how many tokens it has, as a configuration names them."""
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    document = json.loads((folder / "tokenizer.json").read_text())
    tokens = {**document["model"]["vocab"]}
    tokens |= {token["content"]: token["id"] for token in document["added_tokens"]}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return {"vocab_size": max(tokens.values()) + 1, **ends}


if __name__ == "__main__":
    for wanted in sys.argv[3:]:
        write(Path(sys.argv[1]) / wanted, Path(sys.argv[2]), wanted)
