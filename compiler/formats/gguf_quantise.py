"""The stage that quantises a GGUF file: llama.cpp's own function, inside the `llama` toolchain."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.compiler.stage_context import StageContext
from edgeward.errors import StageError, UsageError
from edgeward.runtimes.bundle.gguf_header import GgufHeader, read_header
from edgeward.runtimes.engines.llama_native import library

from .gguf_imatrix_file import Importance, read_importance
from .gguf_types import KINDS, TYPE_NUMBERS, block

MODEL = "model.gguf"
# Rows of one tensor that are in memory at once, in bytes; what is written does not depend on it.
_BUFFER = 256 << 20
_STEP = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)")
_FALLBACK = re.compile(
    r"warning: (?P<tensor>\S+)\s+- ncols\s+(?P<columns>\d+) not divisible by\s+\d+ "
    r"\(required for type\s+(?P<wanted>\S+)\).*?-> falling back to\s+(?P<got>\S+)",
    re.DOTALL,
)
_SHARED = ("token_embd.weight", "output.weight")
_KEPT_WORDS = 4096
# The tags of llama_model_kv_override_type.
_INTEGER, _TEXT = 0, 3


@dataclass(frozen=True, slots=True)
class Fallback:
    """A tensor that got another type than its precision's rule, since its rows do not divide."""

    tensor: str
    columns: int
    wanted: str
    got: str


def quantise(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `model.gguf` with the types that a precision and the choices ask for.

    Raises StageError with llama.cpp's own words where it refuses, UsageError where the importance
    matrix is of another model.
    """
    module = library()
    source, target = context.inputs["model"], context.out / MODEL
    given = context.inputs.get("importance")
    importance = read_importance(given) if given is not None else None
    if importance is not None:
        _require_same_model(importance, read_header(source))
    settings = _settings(module, params, importance)
    with _heard(module, context) as said:
        code = module.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(settings.params)
        )
    text = "".join(said)
    if code:
        raise StageError("llama.cpp could not quantise the model", why=_reason(text))
    header = read_header(target)
    fallbacks = [*_fallbacks(text), *_shared_fallbacks(header, params)]
    return {
        "types": _counted(header),
        "bits_per_weight": round(_bits(header), 4),
        "fallbacks": [[f.tensor, f.columns, f.wanted, f.got] for f in fallbacks],
        "weighed": len(importance.means) if importance else 0,
        "summary": _summary(source, target, header, fallbacks, importance),
    }


def _require_same_model(importance: Importance, header: GgufHeader) -> None:
    """llama.cpp would leave out what it does not know, and say so in its log alone."""
    if any(tensor.name in importance.means for tensor in header.tensors):
        return
    raise UsageError(
        f"{importance.name} is an importance matrix of another model",
        why=f"it knows {next(iter(importance.means))}, and nothing of {header.architecture}'s",
    )


@dataclass(frozen=True, slots=True)
class _Settings:
    """llama_model_quantize_params, and what it points at."""

    params: Any
    kept: tuple[Any, ...]


def _settings(module: Any, params: Mapping[str, Any], importance: Importance | None) -> _Settings:
    """The same fields as llama-quantize sets for these options."""
    made = module.llama_model_quantize_default_params()
    made.ftype = KINDS[params["precision"]].number
    made.nthread, made.max_buf_size = params["threads"], _BUFFER
    for field, name in (
        ("output_tensor_type", params["output"]),
        ("token_embedding_type", params["embedding"]),
    ):
        if name:
            setattr(made, field, TYPE_NUMBERS[name])
    kept: list[Any] = []
    if params["tensors"]:
        overrides = _overrides(module, params["tensors"])
        made.tt_overrides = overrides
        kept.append(overrides)
    if importance is not None:
        entries = _entries(module, importance)
        noted = _noted(module, importance)
        made.imatrix, made.kv_overrides = entries, noted
        kept += [entries, noted, importance]
    return _Settings(made, tuple(kept))


def _overrides(module: Any, tensors: Sequence[Sequence[str]]) -> Any:
    """Patterns and types, ended by a null pattern."""
    array = (module.llama_model_tensor_override * (len(tensors) + 1))()
    for place, (pattern, kind) in zip(array, tensors, strict=False):
        place.pattern, place.type = pattern.encode(), TYPE_NUMBERS[kind]
    return array


def _entries(module: Any, importance: Importance) -> Any:
    array = (module.llama_model_imatrix_data * (len(importance.means) + 1))()
    for place, (name, means) in zip(array, importance.means.items(), strict=False):
        place.name, place.size = name.encode(), means.size
        place.data = means.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return array


def _noted(module: Any, importance: Importance) -> Any:
    """What llama-quantize notes in the file of the matrix, its name without a folder."""
    told: dict[str, str | int] = {"quantize.imatrix.file": importance.name}
    if importance.dataset:
        told["quantize.imatrix.dataset"] = importance.dataset
    told["quantize.imatrix.entries_count"] = len(importance.means)
    if importance.chunks:
        told["quantize.imatrix.chunks_count"] = importance.chunks
    array = (module.llama_model_kv_override * (len(told) + 1))()
    for place, (key, value) in zip(array, told.items(), strict=False):
        place.key = key.encode()
        if isinstance(value, int):
            place.tag, place.value.val_i64 = _INTEGER, value
        else:
            place.tag, place.value.val_str = _TEXT, value.encode()[:127]
    return array


@contextmanager
def _heard(module: Any, context: StageContext) -> Iterator[list[str]]:
    """Give what llama.cpp says while the block runs, and tell of every tensor that it is at."""
    said: list[str] = []

    def hear(_level: int, text: bytes, _data: object) -> None:
        words = text.decode("utf-8", "replace")
        said.append(words)
        step = _STEP.search(words)
        if step:
            context.progress((int(step[1]) - 1) / max(int(step[2]), 1), step[3])

    callback = module.llama_log_callback(hear)
    before, data = module.llama_log_callback(), ctypes.c_void_p()
    module.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    module.llama_log_set(callback, None)
    try:
        yield said
    finally:
        module.llama_log_set(before, data)


def _reason(text: str) -> str:
    lines = [line.strip() for line in text[-_KEPT_WORDS:].splitlines() if line.strip("= \n")]
    told = [line for line in lines if "failed" in line or "ERROR" in line.upper()]
    return "; ".join((told or lines)[-2:])[:500] or "it does not say why"


def _fallbacks(text: str) -> Iterator[Fallback]:
    for found in _FALLBACK.finditer(text):
        yield Fallback(
            found["tensor"], int(found["columns"]), found["wanted"].lower(), found["got"].lower()
        )


def _shared_fallbacks(header: GgufHeader, params: Mapping[str, Any]) -> Iterator[Fallback]:
    """The embeddings or the output where they got eight bits for the same reason, unsaid."""
    rule = KINDS[params["precision"]].tensors
    chosen = [re.compile(pattern) for pattern, _ in params["tensors"]]
    if rule == "q8_0" or params["output"] or params["embedding"]:
        return
    for tensor in header.tensors:
        named = tensor.name in _SHARED and not any(one.search(tensor.name) for one in chosen)
        divides = not tensor.shape[-1] % block(rule)
        if named and not divides and tensor.type_name == "Q8_0":
            yield Fallback(tensor.name, tensor.shape[-1], "q6_k", "q8_0")


def _counted(header: GgufHeader) -> dict[str, int]:
    counts = Counter(tensor.type_name for tensor in header.tensors)
    return dict(sorted(counts.items()))


def _bits(header: GgufHeader) -> float:
    weights = sum(int(np.prod(tensor.shape)) for tensor in header.tensors)
    return 8 * sum(tensor.size for tensor in header.tensors) / max(weights, 1)


def _summary(
    source: Path,
    target: Path,
    header: GgufHeader,
    fallbacks: Sequence[Fallback],
    importance: Importance | None,
) -> str:
    before, after = source.stat().st_size / 2**20, target.stat().st_size / 2**20
    kinds = " ".join(f"{name}:{count}" for name, count in _counted(header).items())
    words = f"{before:.1f} -> {after:.1f} MiB, {_bits(header):.2f} bits a weight, {kinds}"
    if importance:
        words += f", weighed by {len(importance.means)} importances"
    if not fallbacks:
        return words
    columns = ", ".join(str(n) for n in sorted({one.columns for one in fallbacks}))
    got = Counter(f"{one.wanted} -> {one.got}" for one in fallbacks)
    types = ", ".join(f"{what} {count}" for what, count in sorted(got.items()))
    return (
        f"{words}; {len(fallbacks)} of {len(header.tensors)} tensors fell back, their rows of "
        f"{columns} do not divide: {types}"
    )
