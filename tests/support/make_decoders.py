"""Writes tiny random text generators; run with the `onnx` toolchain's Python.

usage: make_decoders.py FOLDER [MODEL_TYPE...]. Each lies in FOLDER/MODEL_TYPE: two layers of width
64, weights of unit scale as in make_encoders.py, a byte-level tokenizer and a chat template.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from make_encoders import SENTENCES
from make_heads import write
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig

CONTEXT = 390
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": CONTEXT,
}
SHARED_HEADS = {**SIZES, "num_key_value_heads": 2}
WIDE_HEADS = {**SHARED_HEADS, "head_dim": 16}
SLIDING = {**WIDE_HEADS, "sliding_window": 8}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
# Model type: settings of its configuration; the others have SHARED_HEADS.
DECODERS: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    "codegen": {**GPT, "rotary_dim": 4},
    "cohere2": SLIDING,
    "exaone4": {**SHARED_HEADS, "sliding_window": 8},
    "falcon": {**SIZES, "ffn_hidden_size": 256, "multi_query": True},
    "gemma": WIDE_HEADS,
    "gemma2": {**SLIDING, "query_pre_attn_scalar": 16},
    "gemma3_text": {**SLIDING, "query_pre_attn_scalar": 16},
    "glm": WIDE_HEADS,
    "glm4": WIDE_HEADS,
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gpt_neo": {
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": CONTEXT,
        "window_size": 8,
    },
    "gpt_neox": SIZES,
    "gptj": {**GPT, "rotary_dim": 4},
    "helium": WIDE_HEADS,
    "ministral": SLIDING,
    "mistral": SLIDING,
    "mixtral": {**SHARED_HEADS, "num_local_experts": 4, "num_experts_per_tok": 2},
    "nemotron": WIDE_HEADS,
    "opt": {**SIZES, "ffn_dim": 256, "word_embed_proj_dim": 64},
    "phi3": {**SHARED_HEADS, "original_max_position_embeddings": CONTEXT},
    "qwen2_moe": {**SHARED_HEADS, **EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": WIDE_HEADS,
    "qwen3_moe": {**WIDE_HEADS, **EXPERTS},
    "seed_oss": WIDE_HEADS,
    "starcoder2": {**SHARED_HEADS, "sliding_window": 8},
}


def write_tokenizer(folder: Path) -> dict[str, int | None]:
    """Write a tokenizer with a chat template; return what a configuration names of it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(SENTENCES)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "eos_token": SPECIAL[2],
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def write_decoder(folder: Path, model_type: str) -> None:
    """Write one model."""
    folder.mkdir(parents=True)
    ids = write_tokenizer(folder)
    settings = DECODERS.get(model_type, SHARED_HEADS)
    config = AutoConfig.for_model(model_type, **{**settings, **ids})
    write(folder, "AutoModelForCausalLM", config)


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        write_decoder(Path(sys.argv[1]) / wanted, wanted)
