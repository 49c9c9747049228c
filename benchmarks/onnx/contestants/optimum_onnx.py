"""optimum-onnx's export in its own runtime. usage: optimum_onnx.py FOLDER"""

from __future__ import annotations

import sys

import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForCausalLM
from protocol import serve

torch.set_num_threads(1)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
model = ORTModelForCausalLM.from_pretrained(sys.argv[1], session_options=options)
cache, seen = None, 0


def prefill(ids):
    """Begin a text."""
    global cache, seen
    cache, seen = None, 0
    _run(list(ids))


def decode(token):
    """Add a token."""
    _run([token])


def _run(ids):
    global cache, seen
    seen += len(ids)
    given = {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, seen, dtype=torch.int64),
        "position_ids": torch.arange(seen - len(ids), seen)[None],
    }
    with torch.inference_mode():
        found = model(**given, past_key_values=cache, use_cache=True)
    cache = found.past_key_values
    found.logits[0, -1].argmax()


serve(prefill, decode)
