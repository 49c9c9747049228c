"""Writes GGUF files of a vocabulary alone, one a way of cutting; run with the `gguf` toolchain.

usage: make_cuts.py FOLDER NAME... writes FOLDER/NAME.gguf. Their merges are learned from
texts cut at spaces alone, so that a wrong cut shows in the ids.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
from make_encoders import SENTENCES
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from edgeward.compiler.dequantise_gguf_texts import HARD_TEXTS, TEXT

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def learned() -> Tokenizer:
    """A byte-level vocabulary whose tokens run across words, digits and signs."""
    tokenizer = Tokenizer(models.BPE())
    lines = pre_tokenizers.Split(Regex(r"[\s\S]{1,24}"), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, letters])
    trainer = trainers.BpeTrainer(
        vocab_size=2500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [*SENTENCES.read_text(encoding="utf-8").splitlines(), *HARD_TEXTS * 3, TEXT]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write(path: Path, name: str, tokenizer: Tokenizer) -> None:
    """Write one file: metadata, no tensors."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [text for text, _ in vocabulary]
    document = tokenizer.to_str()
    import json

    merges = [" ".join(pair) for pair in json.loads(document)["model"]["merges"]]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    shared = learned()
    for one in sys.argv[2:]:
        write(Path(sys.argv[1]) / f"{one}.gguf", one, shared)
