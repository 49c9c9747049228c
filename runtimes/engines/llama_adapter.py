"""A LoRA adapter beside a GGUF model, looked through before llama.cpp sees it.

llama.cpp answers a value of another type than it expects with abort().
"""

from __future__ import annotations

import struct
from pathlib import Path

from edgeward.errors import EngineError, SourceError
from edgeward.runtimes.bundle.gguf_header import GgufHeader, read_header

ROLE = "adapter"
_ALPHA = "adapter.lora.alpha"
_FLOAT32 = 6
_TEXTS = {"general.type": "adapter", "adapter.type": "lora"}
_KNOWN = (*_TEXTS, _ALPHA, "general.architecture")


def checked_adapter(path: Path, model: GgufHeader) -> Path:
    """Return the path of an adapter for the model; EngineError where it is damaged or another's."""
    try:
        header = read_header(path)
    except SourceError as error:
        raise EngineError(f"{path.name} cannot be applied", why=error.why) from None
    problem = _problem_with(header, model)
    if problem:
        raise EngineError(f"llama.cpp cannot apply {path.name}", why=problem)
    return path


def _problem_with(header: GgufHeader, model: GgufHeader) -> str:
    for key, wanted in _TEXTS.items():
        if header.text(key) != wanted:
            return f"its {key} is not {wanted}"
    if header.architecture != model.architecture:
        return f"it is for {header.architecture or 'no architecture'}, not {model.architecture}"
    strange = [key for key in header.metadata if key.startswith("adapter.") and key not in _KNOWN]
    if strange:
        return f"it says what is not known here: {strange[0][:100]}"
    return "" if _has_alpha(header) else f"its {_ALPHA} is not a float32"


def _has_alpha(header: GgufHeader) -> bool:
    """Whether the value's record is of the one type that llama.cpp reads."""
    with header.path.open("rb") as file:
        metadata = file.read(header.tensors_start)
    return _ALPHA.encode() + struct.pack("<I", _FLOAT32) in metadata
