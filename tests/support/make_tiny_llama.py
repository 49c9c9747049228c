"""Writes a tiny random Llama with the tokenizer of a real model; run with a toolchain's Python.

usage: make_tiny_llama.py FOLDER TOKENIZER_FOLDER. llama.cpp knows a tokenizer by its vocabulary:
a made-up one would be refused.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

if __name__ == "__main__":
    folder, tokenizer = map(Path, sys.argv[1:])
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=600,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.15,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="8MB")
    for name in TOKENIZER:
        shutil.copyfile(tokenizer / name, folder / name)
