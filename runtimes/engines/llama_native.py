"""llama.cpp through llama-cpp-python's ctypes functions: a model, and contexts to compute with.

Nothing of the package's Python classes is used: a context does what it is told and no more.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
# GGML_LOG_LEVEL_ERROR of ggml.h.
_ERROR_LEVEL = 4
_GGML_F32, _GGML_F16 = 0, 1
# llama.cpp rounds a context up to this.
TOKENS_STEP = 256
_errors: deque[str] = deque(maxlen=4)


@dataclass(frozen=True, slots=True)
class ContextShape:
    """What a context has room for.

    `tokens` in all its sequences, `batch` of them at once, logits of `outputs` of a batch. An
    `exact` one has keys, values and attention in float32, else they may be float16. One that
    `embeds` gives the last hidden state of each token.
    """

    tokens: int
    batch: int
    outputs: int
    threads: int
    exact: bool = False
    embeds: bool = False
    sequences: int = 1


@cache
def library() -> Any:
    """Return llama-cpp-python's functions, its log silenced but for errors, which are kept.

    Raises EngineError where it is not installed or does not load.
    """
    try:
        module = importlib.import_module("llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            "llama.cpp is not installed",
            why=(str(error).strip().splitlines() or [type(error).__name__])[0][:500],
            next="pip install 'edgeward[llama]'",
        ) from None
    module.llama_log_set(_log_callback(module), None)
    module.llama_backend_init()
    return module


def engine_words() -> tuple[str, str]:
    """Return the version of package and library, and what the library computes with, in words."""
    module = library()
    version = f"{module.__version__} (llama.cpp {module.llama_version().decode()})"
    device, used = _system()
    return version, f"{device}: {' '.join(used)}"


def processor_features() -> Sequence[str]:
    """Return what llama.cpp uses of the processor, in its words; nothing where it has a GPU."""
    return () if library().llama_supports_gpu_offload() else _system()[1]


def _system() -> tuple[str, list[str]]:
    told = library().llama_print_system_info().decode("utf-8", "replace")
    device, _, features = told.partition(" : ")
    return device, re.findall(r"(\w+) = 1", features)


def last_error(otherwise: str) -> str:
    """Return what llama.cpp said last of errors, and forget it."""
    said = "; ".join(_errors)
    _errors.clear()
    return said[:500] or otherwise


class Model:
    """A loaded GGUF file; EngineError where llama.cpp refuses it.

    Its weights are mapped from the file, or `copied` from it. `vocabulary_only` reads the tokenizer
    alone.
    """

    def __init__(
        self,
        path: Path,
        *,
        vocabulary_only: bool = False,
        on_processor: bool = False,
        copied: bool = False,
    ) -> None:
        module = library()
        params = module.llama_model_default_params()
        params.vocab_only = vocabulary_only
        if copied:
            params.load_mode = module.LLAMA_LOAD_MODE_NONE
        if on_processor:
            params.n_gpu_layers = 0
        _errors.clear()
        pointer = module.llama_model_load_from_file(str(path).encode(), params)
        if not pointer:
            raise EngineError(
                f"llama.cpp {engine_words()[0]} cannot load {path.name}",
                why=last_error("it does not say why"),
                next="edgeward doctor",
            )
        self.pointer: Any = pointer
        self.vocabulary: Any = module.llama_model_get_vocab(pointer)
        self.tokens = int(module.llama_vocab_n_tokens(self.vocabulary))
        self._end = weakref.finalize(self, module.llama_model_free, pointer)
        self.adapter: Any = None

    def adapt(self, path: Path) -> None:
        """Have every context made from now on compute with a LoRA adapter, freed with the model.

        EngineError where llama.cpp refuses it.
        """
        _errors.clear()
        self.adapter = library().llama_adapter_lora_init(self.pointer, str(path).encode())
        if not self.adapter:
            raise EngineError(
                f"llama.cpp {engine_words()[0]} cannot apply the adapter {path.name}",
                why=last_error("it does not say why"),
            )

    @property
    def width(self) -> int:
        """How long a hidden state is."""
        return int(library().llama_model_n_embd_out(self.pointer))


class Context:
    """Keys, values and buffers of one or several sequences; used by one thread at a time.

    `watch`, a C callback, is asked about every product and shown those that it wants.
    """

    def __init__(self, model: Model, shape: ContextShape, watch: Any = None) -> None:
        module = library()
        params = module.llama_context_default_params()
        params.n_ctx, params.n_seq_max = shape.tokens, shape.sequences
        params.n_batch = params.n_ubatch = shape.batch
        params.n_outputs_max = shape.outputs
        params.n_threads = params.n_threads_batch = shape.threads
        params.type_k = params.type_v = _GGML_F32 if shape.exact else _GGML_F16
        if shape.exact:
            # Its tiles are float16 on the processor: KL 1.6e-6 against 2.6e-11 without.
            params.flash_attn_type = module.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.kv_unified = True
        params.swa_full = False
        if watch is not None:
            params.cb_eval = watch
        if shape.embeds:
            params.embeddings = True
            params.pooling_type = module.LLAMA_POOLING_TYPE_NONE
        _errors.clear()
        pointer = module.llama_init_from_model(model.pointer, params)
        if not pointer:
            raise EngineError(
                f"llama.cpp has no room for {shape.tokens} tokens",
                why=last_error("memory ran out, or the model takes no context"),
            )
        self._module, self._pointer, self.model, self.shape = module, pointer, model, shape
        self._memory = module.llama_get_memory(pointer)
        self._end = weakref.finalize(self, module.llama_free, pointer)
        if model.adapter is not None:
            adapters = (type(model.adapter) * 1)(model.adapter)
            module.llama_set_adapters_lora(pointer, adapters, 1, (ctypes.c_float * 1)(1.0))

    def decode(self, ids: Ints, wanted: int) -> Floats:
        """Run tokens behind those it holds: the logits after the last `wanted`, a copy.

        At most `shape.batch` tokens and `shape.outputs` logits.
        """
        flags = np.zeros(len(ids), np.int8)
        flags[len(ids) - wanted :] = 1
        batch = self._module.llama_batch(
            n_tokens=len(ids), token=_at(ids, ctypes.c_int32), logits=_at(flags, ctypes.c_int8)
        )
        self._check(self._module.llama_decode(self._pointer, batch), len(ids))
        logits = self._module.llama_get_logits(self._pointer)
        return _copied(logits, wanted, self.model.tokens)

    def hidden(self, ids: Ints, positions: Ints, rows: Ints) -> Floats:
        """Run whole texts, a token's text told by `rows`: hidden states (tokens, width), a copy."""
        count = len(ids)
        pointers = (rows.ctypes.data + 4 * np.arange(count)).astype(np.uintp)
        ones, flags = np.ones(count, np.int32), np.ones(count, np.int8)
        batch = self._module.llama_batch(
            n_tokens=count,
            token=_at(ids, ctypes.c_int32),
            pos=_at(positions, ctypes.c_int32),
            n_seq_id=_at(ones, ctypes.c_int32),
            seq_id=_at(pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_at(flags, ctypes.c_int8),
        )
        run = self._module.llama_decode if self._memory else self._module.llama_encode
        self._check(run(self._pointer, batch), count)
        found = _copied(self._module.llama_get_embeddings(self._pointer), count, self.model.width)
        self.clear()
        return found

    def clear(self) -> None:
        """Forget all tokens."""
        if self._memory:
            self._module.llama_memory_clear(self._memory, False)

    def copy_to(self, other: Context) -> None:
        """Give another context of the same kind the sequence that this one holds."""
        size = self._module.llama_state_seq_get_size(self._pointer, 0)
        held = (ctypes.c_uint8 * size)()
        taken = self._module.llama_state_seq_get_data(self._pointer, held, size, 0)
        if not taken or not self._module.llama_state_seq_set_data(other._pointer, held, taken, 0):
            raise EngineError(
                "llama.cpp could not move a text to a larger context", why=last_error("")
            )

    def _check(self, code: int, tokens: int) -> None:
        if code:
            raise EngineError(
                f"llama.cpp could not run {tokens} tokens",
                why=last_error(f"its code is {code}"),
            )


def _at(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def _copied(pointer: Any, rows: int, columns: int) -> Floats:
    if not pointer:
        raise EngineError("llama.cpp gave no result", why=last_error("its pointer is null"))
    return np.array(np.ctypeslib.as_array(pointer, (rows, columns)), np.float32)


@cache
def _log_callback(module: Any) -> Any:
    """Kept for good: llama.cpp holds its address."""

    def heard(level: int, text: bytes, _data: object) -> None:
        if level == _ERROR_LEVEL and text:
            _errors.append(text.decode("utf-8", "replace").strip())

    return module.llama_log_callback(heard)
