"""Quantises random rows by llama.cpp and reads them back by it; run with the `llama` toolchain.

usage: llama_types.py OUT.npz TYPE=NUMBER... writes for each TYPE its bytes and llama.cpp's floats.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import llama_cpp
import numpy as np

ROWS, COLUMNS = 4, 1024


class _Traits(ctypes.Structure):
    """The head of ggml's `ggml_type_traits`."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def main(out: Path, wanted: dict[str, int]) -> None:
    """Write the file."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    ggml = ctypes.CDLL(str(next(folder.glob("libggml-base.so*"))))
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = (
        [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    )
    numbers = np.random.default_rng(3).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    weights = np.random.default_rng(4).uniform(0.5, 2, COLUMNS).astype(np.float32)
    found = {}
    for name, number in wanted.items():
        traits = ggml.ggml_get_type_traits(number).contents
        raw = np.zeros(numbers.size // traits.blck_size * traits.type_size, np.uint8)
        given = (numbers.ctypes.data, raw.ctypes.data, 0, ROWS, COLUMNS, weights.ctypes.data)
        if ggml.ggml_quantize_chunk(number, *given) != raw.size:
            raise SystemExit(f"{name} was not quantised")
        floats = np.zeros_like(numbers)
        traits.to_float(raw.ctypes.data, floats.ctypes.data, floats.size)
        found[f"{name}.raw"], found[f"{name}.floats"] = raw, floats
    np.savez(out, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), {k: int(v) for k, v in (one.split("=") for one in sys.argv[2:])})
