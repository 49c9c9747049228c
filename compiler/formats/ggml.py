"""ggml's own rounding of rows of weights, by ctypes; runs in the `llama` toolchain."""

from __future__ import annotations

import ctypes
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError

Floats = NDArray[np.float32]
# enum ggml_type of ggml.h
TYPES = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "q2_k": 10,
    "q3_k": 11,
    "q4_k": 12,
    "q5_k": 13,
    "q6_k": 14,
    "iq2_xxs": 16,
    "iq2_xs": 17,
    "iq3_xxs": 18,
    "iq4_nl": 20,
    "iq3_s": 21,
    "iq2_s": 22,
    "iq4_xs": 23,
    "bf16": 30,
}


class _Traits(ctypes.Structure):
    """`struct ggml_type_traits` of ggml.h, as far as it is read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("bytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float", ctypes.c_void_p),
    )


class Ggml:
    """The library beside llama.cpp's Python package; EngineError where it is missing."""

    def __init__(self) -> None:
        self._library = _open()

    def fits(self, type_name: str, columns: int) -> bool:
        """Whether rows of so many columns can be of the type."""
        return columns % int(self._traits(type_name).block) == 0

    def row_bytes(self, type_name: str, columns: int) -> int:
        """Return the bytes of one row."""
        return int(self._library.ggml_row_size(TYPES[type_name], columns))

    def needs_importance(self, type_name: str) -> bool:
        """Whether the type cannot be rounded to without an importance matrix."""
        return bool(self._library.ggml_quantize_requires_imatrix(TYPES[type_name]))

    def rounded(self, rows: Floats, type_name: str, importance: Floats | None) -> Floats:
        """Return float32 rows (n, columns) as they come back from the type.

        `importance` (columns,) says how much each column matters, all alike where it is None.
        """
        rows = np.ascontiguousarray(rows, np.float32)
        count, columns = rows.shape
        packed = ctypes.create_string_buffer(self.row_bytes(type_name, columns) * count)
        self._library.ggml_quantize_chunk(
            TYPES[type_name], rows.ctypes.data, packed, 0, count, columns, _address(importance)
        )
        found = np.empty_like(rows)
        self._traits(type_name).to_float(
            ctypes.addressof(packed), found.ctypes.data, ctypes.c_int64(rows.size)
        )
        return found

    def _traits(self, type_name: str) -> Any:
        return self._library.ggml_get_type_traits(TYPES[type_name]).contents


def _address(importance: Floats | None) -> Any:
    if importance is None:
        return None
    return np.ascontiguousarray(importance, np.float32).ctypes.data_as(ctypes.c_void_p)


def _open() -> ctypes.CDLL:
    try:
        module = importlib.import_module("llama_cpp")
    except ImportError as error:
        raise EngineError(
            "llama.cpp is not installed", why=str(error), next="edgeward doctor --fix llama"
        ) from error
    found = sorted((Path(str(module.__file__)).parent / "lib").glob("*ggml-base.*"))
    if not found:
        raise EngineError("llama.cpp's package has no ggml library", why=str(module.__file__))
    library = ctypes.CDLL(str(found[0]))
    library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    library.ggml_row_size.restype = ctypes.c_size_t
    library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]
    return library
