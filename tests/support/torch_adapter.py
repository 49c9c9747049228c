"""Logits of a model under its adapter by PEFT itself, beside those of a merged folder.

usage: torch_adapter.py MODEL [ADAPTER MERGED]..., with a toolchain's Python, PEFT on its path.
Prints as JSON, of each adapter, the largest logit, the largest difference of PEFT and of the merged
folder, and the largest difference that the adapter makes at all.
"""

from __future__ import annotations

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def logits(model: torch.nn.Module) -> torch.Tensor:
    """Return the logits of a few tokens."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([[5, 9, 301, 44, 7, 120]])).logits


def load(folder: str) -> torch.nn.Module:
    """Load a folder in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def compared(model: str, adapter: str, merged: str) -> dict[str, float]:
    """Return the figures of one adapter."""
    base = logits(load(model))
    wanted = logits(PeftModel.from_pretrained(load(model), adapter).eval())
    found = logits(load(merged))
    return {
        "largest": wanted.abs().max().item(),
        "difference": (found - wanted).abs().max().item(),
        "effect": (base - wanted).abs().max().item(),
    }


if __name__ == "__main__":
    model, *pairs = sys.argv[1:]
    print(json.dumps([compared(model, *pairs[n : n + 2]) for n in range(0, len(pairs), 2)]))
