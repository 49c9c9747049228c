"""Tiny random models with tokenizers of other kinds; run with the `gguf` toolchain's Python.

usage: make_vocabularies.py FOLDER. `sentencepiece` is a Llama with a BPE of SentencePiece's, bytes
for what it does not know; `unigram` an XLM-RoBERTa that embeds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from make_encoders import SENTENCES
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, LlamaTokenizer
from transformers import XLMRobertaTokenizer as RobertaTokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 512,
}


def train(folder: Path, kind: str, name: str, **options: Any) -> Path:
    """Train SentencePiece on the packaged sentences; returns the model's file."""
    sentencepiece.SentencePieceTrainer.train(
        input=str(SENTENCES),
        model_prefix=str(folder / "trained"),
        model_type=kind,
        minloglevel=2,
        **options,
    )
    (folder / "trained.vocab").unlink()
    return (folder / "trained.model").rename(folder / name)


def write_sentencepiece(folder: Path) -> None:
    """A generator with Llama's tokenizer."""
    folder.mkdir(parents=True)
    file = train(folder, "bpe", "tokenizer.model", vocab_size=700, byte_fallback=True)
    LlamaTokenizer.from_pretrained(folder, add_bos_token=True).save_pretrained(folder)
    as_sentencepiece(folder)
    assert file.is_file()
    save(folder, AutoModelForCausalLM, "llama", vocab_size=700, bos_token_id=1, eos_token_id=2)


def as_sentencepiece(folder: Path) -> None:
    """Have tokenizer.json mark the beginning as SentencePiece does, as Llama's own file has it.

    What transformers 5 builds from a SentencePiece model leaves a text alone that begins with a
    space.
    """
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    document["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": "▁"}, space],
    }
    document["pre_tokenizer"] = None
    path.write_text(json.dumps(document))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_unigram(folder: Path) -> None:
    """An encoder with XLM-RoBERTa's tokenizer."""
    folder.mkdir(parents=True)
    train(
        folder,
        "unigram",
        "sentencepiece.bpe.model",
        vocab_size=500,
        normalization_rule_name="nmt_nfkc",
    )
    RobertaTokenizer.from_pretrained(folder).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer.json").read_text())
    size = len(settings["model"]["vocab"])
    save(folder, AutoModel, "xlm-roberta", vocab_size=size, pad_token_id=1)


def save(folder: Path, kind: Any, model_type: str, **settings: int) -> None:
    """Write a random model."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SIZES, **settings})
    kind.from_config(config).save_pretrained(folder)


if __name__ == "__main__":
    write_sentencepiece(Path(sys.argv[1]) / "sentencepiece")
    write_unigram(Path(sys.argv[1]) / "unigram")
