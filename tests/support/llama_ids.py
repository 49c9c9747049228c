"""Says what llama.cpp makes of the hard texts; run with the `llama` toolchain.

usage: llama_ids.py FILE.gguf... prints one JSON object: ids of every text by the file's name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import llama_cpp

from edgeward.compiler.dequantise_gguf_texts import HARD_TEXTS, TEXT, with_special

if __name__ == "__main__":
    found = {}
    texts = with_special((*HARD_TEXTS, TEXT), ["<|im_start|>", "<|im_end|>"])
    for path in map(Path, sys.argv[1:]):
        llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        found[path.stem] = [list(llama.tokenize(t.encode(), True, True)) for t in texts]
    print(json.dumps(found))
