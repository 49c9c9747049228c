"""ONNX Runtime."""

from __future__ import annotations

import importlib
import io
import platform
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef

from .base import EngineOptions, EngineSession, Tensor
from .exact_sums import EXACT, sums_are_exact
from .freed_blocks import freed_blocks
from .huge_pages import huge_pages

DEFAULT_PROVIDERS = ("CPUExecutionProvider",)
_ERRORS_ONLY = 3


class OnnxRuntimeSession:
    """One ONNX graph, loaded; `native` is ONNX Runtime's own InferenceSession."""

    def __init__(self, module: Any, path: Path, options: EngineOptions) -> None:
        self.parts: Mapping[str, EngineSession] = {
            role: OnnxRuntimeSession(module, part, replace(options, parts={}))
            for role, part in options.parts.items()
        }
        try:
            with huge_pages(), freed_blocks():
                self.native = _loaded(module, path, options)
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime {module.__version__} cannot load {path.name}",
                why=_first_line(error),
                next="edgeward doctor",
            ) from error
        self.inputs = [item.name for item in self.native.get_inputs()]
        self.outputs = [item.name for item in self.native.get_outputs()]
        self._symbolic = [
            (item.name, position, axis)
            for item in self.native.get_inputs()
            for position, axis in enumerate(item.shape)
            if isinstance(axis, str)
        ]
        self.ref = EngineRef(
            name="onnxruntime",
            version=module.__version__,
            provider=self.native.get_providers()[0],
            machine=platform.machine(),
        )

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph; UsageError where the inputs do not fit it."""
        if not isinstance(inputs, Mapping):
            raise UsageError(
                "run() takes a dictionary of arrays", why=f"got {type(inputs).__name__}"
            )
        arrays = {name: _array(name, value) for name, value in inputs.items()}
        self._refuse_disagreeing(arrays)
        return dict(zip(self.outputs, self.run_prepared(arrays, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that a task made for this graph, unchecked; the outputs in that order."""
        try:
            results: list[Tensor] = self.native.run(outputs, inputs)
        except Exception as error:
            reason = _first_line(error)
            if isinstance(error, (ValueError, TypeError)) or _is_refusal(reason):
                raise UsageError("The inputs do not fit the model", why=reason) from error
            raise EngineError("ONNX Runtime failed while running", why=reason) from error
        return results

    def _refuse_disagreeing(self, arrays: Mapping[str, Tensor]) -> None:
        """Two lengths of one symbolic dimension: a kernel would fail on them or broadcast."""
        lengths: dict[str, int] = {}
        for name, position, axis in self._symbolic:
            shape = arrays[name].shape if name in arrays else ()
            if position >= len(shape):
                continue
            length = shape[position]
            first = lengths.setdefault(axis, length)
            if first != length:
                why = f"the dimension {axis} is {first} in one input and {length} in {name}"
                raise UsageError("The inputs do not fit together", why=why)


def open_model(path: Path, options: EngineOptions) -> OnnxRuntimeSession:
    """Load an ONNX file."""
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise EngineError(
            "ONNX Runtime is not installed", why=str(error), next="pip install 'edgeward[onnx]'"
        ) from None
    return OnnxRuntimeSession(module, path, options)


def _loaded(module: Any, path: Path, options: EngineOptions) -> Any:
    """ONNX Runtime 1.32 cannot load a weight that two products share with exact sums."""
    providers = _available(module, options.providers or DEFAULT_PROVIDERS)
    if "CUDAExecutionProvider" in providers:
        load_cuda(module)
    settings = exact_settings(module, options, providers)
    try:
        return module.InferenceSession(str(path), settings, providers=providers)
    except module.capi.onnxruntime_pybind11_state.Fail:
        plain = _settings(module, options, providers)
        return module.InferenceSession(str(path), plain, providers=providers)


def load_cuda(module: Any) -> None:
    """Load CUDA and cuDNN where pip put them, which the loader does not search by itself.

    Source: ONNX Runtime's documentation of its CUDA provider, `preload_dlls`, from 1.21 on; what it
    prints of libraries that are not there would stand among a command's output.
    """
    if hasattr(module, "preload_dlls"):
        with redirect_stdout(io.StringIO()):
            module.preload_dlls()


def exact_settings(module: Any, options: EngineOptions, providers: Sequence[str]) -> Any:
    """Return a session's settings; 8-bit products have exact sums with them on any processor."""
    settings = _settings(module, options, providers)
    if not sums_are_exact(module):
        settings.add_session_config_entry(*EXACT)
    return settings


def _settings(module: Any, options: EngineOptions, providers: Sequence[str]) -> Any:
    """On a processor no run is planned from the one before it.

    A plan is one block beside all that the first run took, and one more plan is kept for each shape
    that comes: each token has its own.
    """
    settings = module.SessionOptions()
    settings.enable_mem_pattern = tuple(providers) != DEFAULT_PROVIDERS
    settings.log_severity_level = _ERRORS_ONLY
    if options.threads:
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
    return settings


def _array(name: str, value: object) -> Tensor:
    """The engine reads bytes in the machine's order, whatever order an array says."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise UsageError("The inputs do not fit the model", why=f"{name}: {error}") from None
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _is_refusal(reason: str) -> bool:
    return "INVALID_ARGUMENT" in reason or "can't be converted to MLDataType" in reason


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def _available(module: Any, wanted: tuple[str, ...]) -> list[str]:
    present = module.get_available_providers()
    chosen = [name for name in wanted if name in present]
    return chosen or list(DEFAULT_PROVIDERS)
