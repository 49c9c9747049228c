"""llama_model_quantize called as plainly as can be; run with the `llama` toolchain's Python.

usage: bare_quantise.py SOURCE TARGET SETTINGS. The settings are JSON: `ftype`, and where wanted
`tensors` (pattern, type number), `output`, `embedding`, `importance` (name -> means), `notes`.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import llama_cpp


def quantise(source: str, target: str, settings: dict[str, Any]) -> int:
    """Return llama.cpp's code."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = settings["ftype"]
    for field, name in (("output_tensor_type", "output"), ("token_embedding_type", "embedding")):
        if name in settings:
            setattr(params, field, settings[name])
    tensors = settings.get("tensors", [])
    if tensors:
        overrides = (llama_cpp.llama_model_tensor_override * (len(tensors) + 1))()
        for number, (pattern, kind) in enumerate(tensors):
            overrides[number].pattern, overrides[number].type = pattern.encode(), kind
        params.tt_overrides = overrides
    means = settings.get("importance", {})
    if means:
        entries = (llama_cpp.llama_model_imatrix_data * (len(means) + 1))()
        for number, (name, values) in enumerate(means.items()):
            array = (ctypes.c_float * len(values))(*values)
            entries[number].name, entries[number].size = name.encode(), len(values)
            entries[number].data = array
        params.imatrix = entries
    notes = settings.get("notes", {})
    if notes:
        noted = (llama_cpp.llama_model_kv_override * (len(notes) + 1))()
        for number, (key, value) in enumerate(notes.items()):
            noted[number].key = key.encode()
            if isinstance(value, str):
                noted[number].tag, noted[number].value.val_str = 3, value.encode()
            else:
                noted[number].tag, noted[number].value.val_i64 = 0, value
        params.kv_overrides = noted
    return int(
        llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))
    )


if __name__ == "__main__":
    sys.exit(quantise(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
