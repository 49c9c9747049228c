"""Writes GGUF files of tiny models by llama.cpp's own converter; run with the `gguf` toolchain.

usage: make_gguf.py FOLDER [MODEL_TYPE...]. Each lies in FOLDER/MODEL_TYPE with its `model.gguf`
(float32). `bert` is an encoder; a name after a colon is a variant: `llama:pieces` has
SentencePiece's vocabulary, `llama:scaled` Llama 3.1's positions, `llama:split` several files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import conversion
import gguf
import sentencepiece
import torch
import transformers
from make_decoders import CONTEXT, DECODERS, SHARED_HEADS, SPECIAL, write_decoder
from make_encoders import ENCODERS, SENTENCES, scale
from make_encoders import write as write_encoder

PRE = "gpt-2"
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
MORE = {
    "gpt2": {**DECODERS["gpt2"], "n_ctx": CONTEXT},
    "granite": {
        **SHARED_HEADS,
        "attention_multiplier": 0.2,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    },
    "llama:scaled": {**SHARED_HEADS, "rope_parameters": LLAMA3},
    "qwen2_moe": {**DECODERS["qwen2_moe"], "moe_intermediate_size": 32},
    "qwen3_moe": {**DECODERS["qwen3_moe"], "moe_intermediate_size": 32, "norm_topk_prob": True},
}


def convert(folder: Path, out: Path, *, pieces: bool, split: bool = False) -> None:
    """Run the converter on one folder; a tiny vocabulary is cut as GPT-2 cuts."""
    hparams = conversion.ModelBase.load_hparams(folder, False)
    architecture = conversion.get_model_architecture(hparams, conversion.ModelType.TEXT)
    known: Any = conversion.get_model_class(architecture, mmproj=False)
    byte_level = (
        {} if pieces or architecture == "BertModel" else {"set_vocab": known._set_vocab_gpt2}
    )
    methods = {**byte_level, "get_vocab_base_pre": lambda *_: PRE}
    named = {**methods, "model_arch": known.model_arch}
    one: Any = type(known.__name__, (known,), named)
    settings = {"split_max_tensors": 8} if split else {}
    with torch.inference_mode():
        one(
            folder, gguf.LlamaFileType.ALL_F32, out, eager=True, model_name="Tiny", **settings
        ).write()


def write_pieces(folder: Path) -> int:
    """Train SentencePiece's BPE with bytes as its fallback; return how many pieces it has."""
    sentencepiece.SentencePieceTrainer.train(
        input=str(SENTENCES),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=560,
        byte_fallback=True,
        character_coverage=0.99,
        user_defined_symbols=["<|im_start|>", "<|im_end|>", "\n\n"],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return 560


def rewrite(folder: Path, **settings: Any) -> None:
    """Write a decoder again with other settings."""
    config = transformers.AutoConfig.from_pretrained(folder)
    for name, value in settings.items():
        setattr(config, name, value)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    scale(model)
    model.save_pretrained(folder)


def main(root: Path, wanted: list[str]) -> None:
    """Write every model that is wanted."""
    for name in wanted:
        model_type, _, variant = name.partition(":")
        folder = root / name.replace(":", "-")
        if model_type in ENCODERS:
            write_encoder(folder, model_type)
        else:
            DECODERS.update({model_type: MORE.get(name, DECODERS.get(model_type, SHARED_HEADS))})
            write_decoder(folder, model_type)
        pieces = variant == "pieces"
        if pieces:
            rewrite(folder, vocab_size=write_pieces(folder), bos_token_id=1)
            (folder / "tokenizer.json").unlink()
            marks = {3: SPECIAL[1], 4: SPECIAL[2], 5: "\n\n"}
            added = {str(n): {"content": text, "special": n < 5} for n, text in marks.items()}
            settings = {"added_tokens_decoder": added}
            (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        out = folder / "gguf"
        out.mkdir()
        convert(folder, out / "model.gguf", pieces=pieces, split=variant == "split")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
