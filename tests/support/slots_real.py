"""A real text generator behind a cache of slots; run with the `onnx` toolchain's Python.

usage: slots_real.py MODEL_FOLDER

Writes, as JSON: how many of 64 greedy tokens are those of Hugging Face's own `generate`, and the
largest value that any operator gives on a text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgeward.compiler.mobile.decoder import open_decoder_front
from edgeward.compiler.mobile.decoder_proof import TorchSlots
from edgeward.compiler.reference_model import load_another, load_tokenizer
from edgeward.runtimes.tasks.slots import SlottedState

TEXT = "The ferry to the northern islands leaves from the second pier at a quarter past seven and"
TOKENS, CONTEXT, WRITTEN = 32, 128, 64


class Largest(TorchDispatchMode):
    """Keeps the largest value that an operator gave."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0.0

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor) and one.is_floating_point() and one.numel():
                self.value = max(self.value, float(one.abs().max()))
        return found


def told(folder: Path) -> dict[str, float]:
    """Return both figures."""
    model, original = (load_another(folder, "AutoModelForCausalLM") for _ in range(2))
    ids: list[int] = load_tokenizer(folder)(TEXT)["input_ids"]
    fronts = [
        open_decoder_front(
            "text-generation", folder, model, tokens=tokens, context=CONTEXT, stateful=False
        )
        for tokens in (TOKENS, 1)
    ]
    with torch.no_grad():
        whole = original.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones((1, len(ids)), dtype=torch.int64),
            max_new_tokens=WRITTEN,
            min_new_tokens=WRITTEN,
            do_sample=False,
            repetition_penalty=1.0,
        )
    wanted = whole[0, len(ids) :].tolist()
    state, found, new = SlottedState(TorchSlots(fronts), {}), [], ids
    for _ in range(WRITTEN):
        new = [int(state.next_logits(new).argmax())]
        found += new
    largest = Largest()
    given = torch.tensor([(ids * TOKENS)[:TOKENS]], dtype=torch.int32)
    with torch.no_grad(), largest:
        fronts[0].module(given, *list(fronts[0].inputs.values())[1:])
    same = sum(a == b for a, b in zip(wanted, found, strict=True))
    return {"same": same, "largest": largest.value}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(told(Path(sys.argv[1]))))
