"""The torch model itself, eager or compiled. usage: torch_model.py FOLDER eager|compile"""

from __future__ import annotations

import sys

import torch
from protocol import serve
from transformers import AutoModelForCausalLM, StaticCache

torch.set_num_threads(1)
LONGEST = 1152
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
forward = model.forward
if sys.argv[2] == "compile":
    forward = torch.compile(model.forward, dynamic=False)
cache, seen = None, 0


def prefill(ids):
    """Begin a text."""
    global cache, seen
    cache, seen = StaticCache(config=model.config, max_cache_len=LONGEST), 0
    _run(list(ids), model.forward)


def decode(token):
    """Add a token."""
    _run([token], forward)


def _run(ids, call):
    global seen
    positions = torch.arange(seen, seen + len(ids))
    seen += len(ids)
    with torch.inference_mode():
        found = call(
            input_ids=torch.tensor([ids]),
            position_ids=positions[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    found.logits[0, -1].argmax()


serve(prefill, decode)
