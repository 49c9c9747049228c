"""Small weights of a safetensors file as float32; bfloat16 too, which numpy does not have."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError, UnsupportedError

_READ_AS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read every tensor of the file.

    Raises SourceError where it is damaged, UnsupportedError where a tensor is of another type.
    """
    library: Any = importlib.import_module("safetensors")
    try:
        parts = library.deserialize(path.read_bytes())
    except (OSError, library.SafetensorError) as error:
        raise SourceError(f"{path} has no weights that can be read", why=str(error)) from None
    return {name: _float32(path, part) for name, part in parts}


def _float32(path: Path, part: dict[str, Any]) -> NDArray[np.float32]:
    """A bfloat16 is the upper half of a float32."""
    kind, data = part["dtype"], bytes(part["data"])
    if kind == "BF16":
        flat = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    elif kind in _READ_AS:
        flat = np.frombuffer(data, _READ_AS[kind])
    else:
        raise UnsupportedError(
            f"{path} has weights of the type {kind}", why=f"supported: BF16, {', '.join(_READ_AS)}"
        )
    return np.asarray(flat.reshape(part["shape"]), np.float32)
