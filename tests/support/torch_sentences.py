"""Sentence vectors by torch alone; run with the `onnx` toolchain's Python.

usage: torch_sentences.py MODEL_FOLDER < texts.json > vectors.json
"""

from __future__ import annotations

import json
import sys

import torch
from transformers import AutoModel, AutoTokenizer


def main() -> None:
    """Average the real tokens' float32 vectors and scale to length 1, one text at a time."""
    torch.set_num_threads(1)
    model = AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    vectors = []
    with torch.inference_mode():
        for text in json.load(sys.stdin):
            inputs = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            mean = model(**inputs).last_hidden_state[0].mean(dim=0)
            vectors.append((mean / mean.norm()).tolist())
    json.dump(vectors, sys.stdout)


if __name__ == "__main__":
    main()
