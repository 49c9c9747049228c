"""llama.cpp: GGUF files, through llama-cpp-python.

It decodes by itself (`start`), and embeds: `run` gives each token's last hidden state. Keys and
values are float32 for a model in float32, else float16.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.gguf_header import GgufHeader, read_header, split_paths
from edgeward.runtimes.bundle.manifest import EngineRef

from .base import EngineOptions, EngineSession, Tensor
from .cores import physical_cores
from .huge_pages import huge_pages
from .llama_adapter import ROLE, checked_adapter
from .llama_checks import checked_header
from .llama_decoder import LlamaDecoder, LlamaState
from .llama_encoder import LlamaEncoder
from .llama_native import Model, engine_words, library, processor_features
from .llama_repacked import is_better_read, repacked_bytes

HIDDEN_STATES = "last_hidden_state"
# llama_ftype of llama.h.
_ALL_F32 = 0
_PROCESSOR = "CPU"


class LlamaSession:
    """A GGUF model, loaded; `native` is llama.cpp's own model."""

    inputs: Sequence[str] = ("input_ids", "attention_mask")
    outputs: Sequence[str] = (HIDDEN_STATES,)
    batched = False

    def __init__(self, path: Path, header: GgufHeader, options: EngineOptions) -> None:
        self.parts: Mapping[str, EngineSession] = {}
        on_processor = bool(options.providers) and options.providers[0].startswith(_PROCESSOR)
        copied = is_file_better_read(path, header)
        with huge_pages() if copied else nullcontext():
            self.native = Model(path, on_processor=on_processor, copied=copied)
        if ROLE in options.parts:
            self.native.adapt(checked_adapter(options.parts[ROLE], header))
        self._threads = options.threads or physical_cores()
        self._exact = header.number("general.file_type") == _ALL_F32
        self._limit = header.number(f"{header.architecture}.context_length")
        version, device = engine_words()
        self.ref = EngineRef(
            name="llama.cpp", version=version, provider=device, machine=platform.machine()
        )

    @cached_property
    def _decoder(self) -> LlamaDecoder:
        return LlamaDecoder(self.native, self._threads, self._exact)

    @cached_property
    def _encoder(self) -> LlamaEncoder:
        return LlamaEncoder(self.native, self._threads, self._exact, self._limit)

    def start(self, rows: int = 1) -> LlamaState:
        """Return a text that has no tokens yet, to be decoded."""
        return self._decoder.start(rows)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Embed token ids (rows, sequence); UsageError where the inputs do not fit."""
        if not isinstance(inputs, Mapping) or set(inputs) != set(self.inputs):
            given = ", ".join(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise UsageError(
                "The inputs do not fit the model",
                why=f"it takes {', '.join(self.inputs)}; got {given}",
            )
        arrays = {name: _integers(name, value) for name, value in inputs.items()}
        return {HIDDEN_STATES: self.run_prepared(arrays, self.outputs)[0]}

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that a task made for this model, unchecked."""
        if tuple(outputs) != (HIDDEN_STATES,):
            raise UsageError("llama.cpp gives no such output", why=", ".join(outputs))
        return [self._encoder.run(inputs["input_ids"], inputs["attention_mask"])]


def open_model(path: Path, options: EngineOptions) -> LlamaSession:
    """Load a GGUF file, or the first of those that a model is split into; with its adapter.

    Raises EngineError where llama-cpp-python is missing, or the file is damaged or refused.
    """
    library()
    unknown = [role for role in options.parts if role != ROLE]
    if unknown:
        raise EngineError("llama.cpp runs no model of several graphs", why=", ".join(unknown))
    return LlamaSession(path, checked_header(path), options)


def is_file_better_read(path: Path, header: GgufHeader) -> bool:
    """Say whether mapping a model's files would keep much of them in memory twice."""
    others = map(read_header, split_paths(path)[1:])
    tensors = [tensor for one in (header, *others) for tensor in one.tensors]
    repacked = repacked_bytes(tensors, processor_features())
    return is_better_read(repacked, sum(tensor.size for tensor in tensors))


def _integers(name: str, value: object) -> Tensor:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise UsageError("The inputs do not fit the model", why=f"{name}: {error}") from None
    if array.dtype.kind not in "iub":
        raise UsageError("The inputs do not fit the model", why=f"{name} is {array.dtype}")
    return array
