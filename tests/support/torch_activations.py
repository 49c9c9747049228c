"""Mean squares of what flows into a llama's linear layers, by torch; in the `gguf` toolchain.

usage: torch_activations.py MODEL TARGET IDS... where IDS are windows, numbers with commas. Writes
arrays by the names that GGUF has.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def means(folder: str, windows: list[list[int]]) -> dict[str, np.ndarray]:
    """Hook every linear layer, run the windows."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sums: dict[str, torch.Tensor] = {}
    rows: dict[str, int] = {}

    def watch(name: str):
        def hook(_module, inputs, _output):
            flow = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
            sums[name] = sums.get(name, 0) + flow.square().sum(dim=0)
            rows[name] = rows.get(name, 0) + len(flow)

        return hook

    for number, layer in enumerate(model.model.layers):
        for path, name in NAMES.items():
            linear = layer.get_submodule(path)
            linear.register_forward_hook(watch(f"blk.{number}.{name}.weight"))
    with torch.inference_mode():
        for ids in windows:
            model(torch.tensor([ids]))
    return {name: (total / rows[name]).numpy() for name, total in sums.items()}


if __name__ == "__main__":
    given = [[int(word) for word in text.split(",")] for text in sys.argv[3:]]
    np.savez(sys.argv[2], **means(sys.argv[1], given))
