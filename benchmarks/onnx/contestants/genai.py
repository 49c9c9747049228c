"""onnxruntime-genai's own graph in its own runtime. usage: genai.py FOLDER"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
from protocol import serve

folder = Path(sys.argv[1])
settings = json.loads((folder / "genai_config.json").read_text())
settings["model"]["decoder"].setdefault("session_options", {})["intra_op_num_threads"] = 1
(folder / "genai_config.json").write_text(json.dumps(settings))
model = og.Model(str(folder))
generator = None


def prefill(ids):
    """Begin a text; its first call only picks the token that the prefill made likeliest."""
    global generator
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + 64, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array([list(ids)], np.int32))
    generator.generate_next_token()


def decode(_token):
    """Add the token that it picked itself."""
    generator.generate_next_token()


serve(prefill, decode)
