"""The stage that finds which columns of a model's weights matter, inside the `llama` toolchain.

What flows into every product of the converted model is watched while it reads the calibration
texts, as llama-imatrix does: so any architecture that llama.cpp runs is covered, experts too, with
the weights mapped from the file and one passage in memory at a time.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.compiler.stage_context import StageContext
from edgeward.errors import StageError
from edgeward.runtimes.engines.llama_checks import checked_header
from edgeward.runtimes.engines.llama_native import Context, ContextShape, Model, library

from .gguf_imatrix_file import Sums, write_importance

IMPORTANCE = "imatrix.gguf"
DATASET = "calibration"
WINDOW, MOST_WINDOWS = 512, 128
_LEAST_TOKENS = 16
_WEIGHTS = "blk."
_DIMENSIONS, _SOURCES, _PARAMETERS, _NAME = 4, 10, 64, 64
_PRODUCT, _EXPERTS_PRODUCT = b"MUL_MAT", b"MUL_MAT_ID"
_F32 = 0


class _Tensor(ctypes.Structure):
    """struct ggml_tensor of ggml.h, as far as its name."""


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * _DIMENSIONS),
    ("nb", ctypes.c_size_t * _DIMENSIONS),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * (_PARAMETERS // 4)),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * _SOURCES),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * _NAME),
]


def weigh(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `imatrix.gguf` of the calibration texts, in llama.cpp's own format.

    Raises StageError where the texts are too short to tell anything.
    """
    path, texts = context.inputs["model"], params["texts"]
    header = checked_header(path)
    limit = header.number(f"{header.architecture}.context_length") or WINDOW
    window = min(WINDOW, limit)
    model = Model(path, on_processor=True)
    passages = list(_passages(model, texts, window))
    watcher = _Watcher()
    shape = ContextShape(window, window, window, params["threads"], exact=True, embeds=True)
    runner = Context(model, shape, watch=watcher.callback)
    for number, ids in enumerate(passages):
        context.progress(number / len(passages), f"passage {number + 1} of {len(passages)}")
        rows = np.zeros(len(ids), np.int32)
        runner.hidden(ids, np.arange(len(ids), dtype=np.int32), rows)
        watcher.raise_failure()
    if not watcher.sums:
        raise StageError(
            "The calibration texts are too short to weigh a model by",
            why=f"{len(passages)} passages, {sum(map(len, passages))} tokens",
            next="edgeward compile … --calibration FILE",
        )
    write_importance(context.out / IMPORTANCE, watcher.sums, DATASET, window)
    tokens = sum(len(ids) for ids in passages)
    idle = sum(int((one.counts == 0).sum()) for one in watcher.sums.values())
    return {
        "calibration_sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
        "entries": len(watcher.sums),
        "tokens": tokens,
        "idle_experts": idle,
        "summary": f"{len(watcher.sums)} weights seen in {len(passages)} passages, {tokens} tokens"
        + (f", {idle} experts never asked" if idle else ""),
    }


class _Watcher:
    """Adds up the squares of what flows into each weight; called by llama.cpp between products."""

    def __init__(self) -> None:
        module = library()
        self.sums: dict[str, Sums] = {}
        self._failure: BaseException | None = None
        self.callback = module.ggml_backend_sched_eval_callback(self._called)
        base = importlib.import_module("llama_cpp._ggml").libggml
        self._op_name = base.ggml_op_name
        self._op_name.argtypes, self._op_name.restype = [ctypes.c_int], ctypes.c_char_p
        self._fetch = base.ggml_backend_tensor_get
        self._fetch.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        self._fetch.restype = None

    def raise_failure(self) -> None:
        """Raise what happened inside the callback: an exception cannot leave it."""
        if self._failure is not None:
            raise self._failure

    def _called(self, pointer: int, ask: bool, _data: object) -> bool:
        if self._failure is not None:
            return not ask
        try:
            product = ctypes.cast(pointer, ctypes.POINTER(_Tensor)).contents
            if ask:
                return self._wants(product)
            self._add(product)
        except BaseException as error:  # noqa: BLE001  nothing may pass through C
            self._failure = error
        return True

    def _wants(self, product: _Tensor) -> bool:
        kind = self._op_name(product.op)
        if kind not in (_PRODUCT, _EXPERTS_PRODUCT):
            return False
        weight, flow = product.src[0].contents, product.src[1].contents
        if not _name(weight).startswith(_WEIGHTS) or flow.type != _F32:
            return False
        return bool(kind == _EXPERTS_PRODUCT or flow.ne[1] >= _LEAST_TOKENS)

    def _add(self, product: _Tensor) -> None:
        weight, flow = product.src[0], product.src[1]
        name, experts = _name(weight.contents), int(weight.contents.ne[2])
        if self._op_name(product.op) == _EXPERTS_PRODUCT:
            rows, owners = self._routed(flow, product.src[2])
        else:
            experts = 1
            rows = self._floats(flow).reshape(-1, flow.contents.ne[0])
            owners = np.zeros(len(rows), np.int64)
        found = self.sums.get(name)
        if found is None:
            squares = np.zeros((experts, rows.shape[1]), np.float64)
            found = self.sums[name] = Sums(squares, np.zeros(experts, np.int64))
        squared = np.square(rows, dtype=np.float64)
        for expert in np.unique(owners):
            found.squares[expert] += squared[owners == expert].sum(axis=0)
        found.counts += np.bincount(owners, minlength=experts)

    def _routed(self, flow: Any, chosen: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Rows with the expert that each goes to; the same row may go to several."""
        ids = self._whole(chosen)
        values = self._floats(flow)
        tokens, used = ids.shape
        places = np.arange(used) % values.shape[1]
        rows = values[np.arange(tokens)[:, None], places[None, :]]
        return rows.reshape(-1, values.shape[2]), ids.reshape(-1).astype(np.int64)

    def _floats(self, tensor: Any) -> NDArray[np.float32]:
        """A tensor of float32 as (tokens, rows, columns); its rows may lie apart."""
        shape, strides, data = self._bytes(tensor)
        values = np.ndarray(shape, np.float32, data, strides=strides)
        return np.ascontiguousarray(values).reshape(-1, shape[2], shape[3])

    def _whole(self, tensor: Any) -> NDArray[np.int32]:
        """Numbers of experts (tokens, used)."""
        shape, strides, data = self._bytes(tensor)
        values: NDArray[np.int32] = np.ndarray(shape, np.int32, data, strides=strides)
        return values.reshape(shape[2:])

    def _bytes(self, tensor: Any) -> tuple[tuple[int, ...], tuple[int, ...], bytes]:
        seen = tensor.contents
        shape, strides = tuple(seen.ne[::-1]), tuple(seen.nb[::-1])
        last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        data = ctypes.create_string_buffer(last + 4)
        self._fetch(ctypes.addressof(seen), data, 0, last + 4)
        return shape, strides, data.raw


def _name(tensor: _Tensor) -> str:
    """A weight's name without the device that it was copied to: `CUDA0#blk.0.attn_q.weight#0`."""
    name = bytes(tensor.name).decode("utf-8", "replace")
    return name.split("#")[1] if "#" in name else name


def _passages(model: Model, texts: Sequence[str], window: int) -> Iterator[NDArray[np.int32]]:
    """Token ids of the texts behind each other, cut in windows, each begun as any text is."""
    module = library()
    ids = _tokens(model, "\n".join(texts))
    begun = bool(module.llama_vocab_get_add_bos(model.vocabulary))
    first = module.llama_vocab_bos(model.vocabulary)
    for start in range(0, len(ids), window)[:MOST_WINDOWS]:
        part = ids[start : start + window].copy()
        if len(part) < _LEAST_TOKENS:
            return
        if begun:
            part[0] = first
        yield part


def _tokens(model: Model, text: str) -> NDArray[np.int32]:
    data = text.encode()
    ids = np.empty(len(data) + 16, np.int32)
    place = ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    count = library().llama_tokenize(
        model.vocabulary, data, len(data), place, len(ids), True, False
    )
    return ids[: max(count, 0)]
