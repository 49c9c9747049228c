"""What llama.cpp says of a GGUF file that it loads; run with the `llama` toolchain's Python.

usage: llama_buffers.py HALF TYPE [TABLE_TYPE]. HALF is rounded to a file type, its table of words
to a type of its own. Prints JSON: MiB by buffer, of a mapped file and of one that edgeward's engine
opens; edgeward's own count of what is packed anew; the largest difference between their logits.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.runtimes.bundle.gguf_header import read_header
from edgeward.runtimes.bundle.gguf_types import TENSOR_TYPES
from edgeward.runtimes.engines import llama_native
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.llama import open_model
from edgeward.runtimes.engines.llama_decoder import LlamaDecoder
from edgeward.runtimes.engines.llama_repacked import repacked_bytes

_LINE = re.compile(r"(\w+) model buffer size = +([\d.]+) MiB")
_IDS = [100 + 37 * number for number in range(40)]


def rounded(half: Path, file: Path, kind: str, table: str) -> Path:
    """Have llama.cpp round a file."""
    module = llama_native.library()
    params = module.llama_model_quantize_default_params()
    params.ftype = getattr(module, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if table:
        numbers = {one.name: number for number, one in TENSOR_TYPES.items()}
        params.token_embedding_type = params.output_tensor_type = numbers[table]
    wrong = module.llama_model_quantize(
        str(half).encode(), str(file).encode(), ctypes.byref(params)
    )
    assert not wrong
    return file


def listening() -> list[str]:
    """Return a list that fills with what llama.cpp says from now on."""
    module, said = llama_native.library(), []

    def heard(_level: int, text: bytes, _data: object) -> None:
        said.append(text.decode("utf-8", "replace"))

    listening.kept = module.llama_log_callback(heard)  # type: ignore[attr-defined]
    module.llama_log_set(listening.kept, None)  # type: ignore[attr-defined]
    return said


def buffers(said: list[str]) -> dict[str, float]:
    """Return MiB by buffer."""
    found = dict(_LINE.findall("".join(said)))
    said.clear()
    return {name: float(size) for name, size in found.items()}


def logits(model: llama_native.Model) -> Any:
    """Return the logits after each token of a text."""
    return LlamaDecoder(model, 1, exact=False).start().logits(_IDS)


def main() -> None:
    """Round, load twice and print."""
    with tempfile.TemporaryDirectory() as scratch:
        kind, table = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""
        file = rounded(Path(sys.argv[1]), Path(scratch) / "model.gguf", kind, table)
        said = listening()
        mapped = llama_native.Model(file)
        told: dict[str, Any] = {"mapped": buffers(said)}
        session = open_model(file, EngineOptions(threads=1, providers=("CPUExecutionProvider",)))
        told["opened"] = buffers(said)
        counted = repacked_bytes(read_header(file).tensors, llama_native.processor_features())
        told["counted"] = counted / 2**20
        told["apart"] = float(np.abs(logits(mapped) - logits(session.native)).max())
    print(json.dumps(told))


if __name__ == "__main__":
    main()
