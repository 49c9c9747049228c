"""Holds our reading of each type against llama.cpp's; run with the `gguf` toolchain.

usage: gguf_types.py FILE.npz TYPE=NUMBER... prints the largest difference of each as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edgeward.compiler.dequantise_gguf import numbers_of
from edgeward.compiler.source_gguf_header import GgufTensor
from edgeward.compiler.source_gguf_types import TYPES

if __name__ == "__main__":
    stored = np.load(sys.argv[1])
    found = {}
    for name, number in (one.split("=") for one in sys.argv[2:]):
        floats = stored[f"{name}.floats"]
        tensor = GgufTensor(name, TYPES[int(number)], floats.shape, Path("none"), 0)
        mine = numbers_of(stored[f"{name}.raw"], tensor).reshape(floats.shape)
        found[name] = float(np.abs(mine - floats).max())
    print(json.dumps(found))
