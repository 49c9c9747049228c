"""TensorRT: runs a plan that was built on this device (`edgeward finalize`).

https://docs.nvidia.com/deeplearning/tensorrt/api/python_api/infer/Core/ExecutionContext.html
"""

from __future__ import annotations

import importlib
import math
import platform
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef

from .base import EngineOptions, EngineSession, Tensor
from .cuda import Cuda, open_cuda

_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}
_AGAIN = "edgeward finalize BUNDLE"


class _Buffers:
    """Device memory by tensor, grown where a request needs more, and the stream that it is for."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.stream = cuda.stream()
        self._held: dict[str, tuple[int, int]] = {}

    def at_least(self, name: str, size: int) -> int:
        """Return the address of a tensor's memory; TensorRT wants one for an empty tensor too."""
        address, held = self._held.get(name, (0, 0))
        if held < max(size, 1):
            if held:
                self.cuda.free(address)
                del self._held[name]
            address = self.cuda.allocate(max(size, 1))
            self._held[name] = (address, max(size, 1))
        return address

    def release(self) -> None:
        """Give everything back."""
        for address, _ in self._held.values():
            self.cuda.free(address)
        self._held.clear()
        self.cuda.destroy(self.stream)


class TensorrtSession:
    """One engine with one execution context; requests of several threads take turns."""

    def __init__(self, trt: Any, cuda: Cuda, path: Path) -> None:
        self.parts: Mapping[str, EngineSession] = {}
        self._trt = trt
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(_read(path))
        if self._engine is None:
            why = f"TensorRT {trt.__version__} did not build it, or not for this GPU"
            raise EngineError(f"TensorRT cannot load {path.name}", why=why, next=_AGAIN)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"TensorRT cannot run {path.name}", why="there is not memory enough on the device"
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = trt.TensorIOMode.INPUT
        self.inputs = [n for n in names if self._engine.get_tensor_mode(n) == is_input]
        self.outputs = [n for n in names if n not in self.inputs]
        self._dtypes = {name: self._dtype(name) for name in names}
        host = trt.TensorLocation.HOST
        self._on_host = {n for n in names if self._engine.get_tensor_location(n) == host}
        self._buffers = _Buffers(cuda)
        self._lock = threading.Lock()
        weakref.finalize(self, self._buffers.release)
        self.ref = EngineRef(
            name="tensorrt", version=trt.__version__, provider="CUDA", machine=platform.machine()
        )

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the engine; UsageError where the inputs do not fit it."""
        if not isinstance(inputs, Mapping):
            raise UsageError(
                "run() takes a dictionary of arrays", why=f"got {type(inputs).__name__}"
            )
        unknown = sorted(set(map(str, inputs)) - set(self.inputs))
        if unknown:
            raise _unfit(f"it has no input {unknown[0]}")
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        return dict(zip(self.outputs, self.run_prepared(arrays, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run on arrays that a task made for this graph; the outputs in that order."""
        with self._lock:
            kept = [self._give(name, inputs) for name in self.inputs]
            lacking = self._context.infer_shapes()
            if lacking:
                raise _unfit(f"the shapes of {', '.join(map(str, lacking))} do not follow")
            given = {name: self._make_room(name) for name in self.outputs}
            if not self._context.execute_async_v3(stream_handle=self._buffers.stream):
                raise EngineError("TensorRT failed while running", why="its own words stand above")
            for name in outputs:
                array, address = given[name]
                if address is not None:
                    self._buffers.cuda.copy_out(array, address, self._buffers.stream)
            self._buffers.cuda.wait(self._buffers.stream)
            del kept
        return [given[name][0] for name in outputs]

    def _give(self, name: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Hand one input over and return it: it must outlive the run."""
        if name not in inputs:
            raise _unfit(f"the input {name} is missing")
        array = np.asarray(inputs[name], order="C")
        wanted = self._dtypes[name]
        if array.dtype.newbyteorder("=") != wanted:
            raise _unfit(f"{name} is {array.dtype}, expected {wanted}")
        array = array.astype(wanted, copy=False)
        if not self._context.set_input_shape(name, tuple(array.shape)):
            raise _unfit(f"{name} is {_shape(array.shape)}, {self._range(name)}")
        if name in self._on_host:
            self._bind(name, array.ctypes.data)
            return array
        address = self._buffers.at_least(name, array.nbytes)
        self._buffers.cuda.copy_in(address, array, self._buffers.stream)
        self._bind(name, address)
        return array

    def _make_room(self, name: str) -> tuple[Tensor, int | None]:
        shape = tuple(self._context.get_tensor_shape(name))
        if any(length < 0 for length in shape):
            raise EngineError(
                f"The output {name} has a shape that only its values tell",
                why="a plan's outputs are to follow from its inputs' shapes",
                next="load(bundle, engine='onnxruntime')",
            )
        array: Tensor = np.empty(shape, self._dtypes[name])
        if name in self._on_host:
            self._bind(name, array.ctypes.data)
            return array, None
        address = self._buffers.at_least(name, math.prod(shape) * array.itemsize)
        self._bind(name, address)
        return array, address

    def _bind(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"TensorRT does not take the memory of {name}")

    def _dtype(self, name: str) -> np.dtype[Any]:
        kind = self._engine.get_tensor_dtype(name)
        for known, dtype in _DTYPES.items():
            if kind == getattr(self._trt.DataType, known):
                return np.dtype(dtype)
        raise EngineError(f"{name} is {kind}", why=f"known are {', '.join(_DTYPES)}")

    def _range(self, name: str) -> str:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        return f"the engine was built for {_shape(least)} to {_shape(most)}"


def open_model(path: Path, options: EngineOptions) -> TensorrtSession:
    """Load a plan; EngineError where TensorRT or CUDA is missing, or the plan is another's."""
    if options.parts:
        raise EngineError("TensorRT runs one graph", why="this bundle has several")
    return TensorrtSession(import_tensorrt(), open_cuda(), path)


def import_tensorrt() -> Any:
    """Return TensorRT's Python package; EngineError where it is missing or broken."""
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise EngineError(
            "TensorRT's Python package is not installed",
            why=str(error)[:300],
            next="on a Jetson: sudo apt-get install python3-libnvinfer; elsewhere: "
            "pip install tensorrt-cu12",
        ) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path} cannot be read", why=str(error), next=_AGAIN) from None


def _unfit(why: str) -> UsageError:
    return UsageError("The inputs do not fit the model", why=why)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a single value"
