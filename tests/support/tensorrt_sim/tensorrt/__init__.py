"""A simulated TensorRT 10.3: the API's names and arguments, ONNX Runtime in place of a GPU.

The names and parameters are held against those recorded from the real package
(`tensorrt_signatures.json`). Device memory is this process's own. FAKE_TENSORRT says how it
behaves: refuse, abort, wrong.
"""

from __future__ import annotations

import ctypes
import os
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from simulated_plan import make_plan, read_plan

from edgeward.runtimes.engines import cuda

__version__ = "10.3.0"


class DataType(Enum):
    FLOAT = np.float32
    HALF = np.float16
    BF16 = "bf16"
    INT8 = np.int8
    INT32 = np.int32
    INT64 = np.int64
    BOOL = np.bool_
    UINT8 = np.uint8


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(IntEnum):
    DEVICE = 0
    HOST = 1


class NetworkDefinitionCreationFlag(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class Logger:
    WARNING, ERROR = 2, 1

    def __init__(self, min_severity: int = 2) -> None:
        self.min_severity = min_severity


class ITensor:
    def __init__(self, info: Any) -> None:
        self.name = info.name
        self.shape = tuple(d.dim_value or -1 for d in info.type.tensor_type.shape.dim)


class INetworkDefinition:
    def __init__(self) -> None:
        self.graph = b""
        self.infos: list[Any] = []

    @property
    def num_inputs(self) -> int:
        return len(self.infos)

    def get_input(self, index: int) -> ITensor:
        return ITensor(self.infos[index])


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Logger) -> None:
        self._network = network
        self.num_errors = 0

    def parse_from_file(self, model: str) -> bool:
        if os.environ.get("FAKE_TENSORRT") == "refuse":
            self.num_errors = 1
            return False
        self._network.graph = Path(model).read_bytes()
        self._network.infos = list(onnx.load_from_string(self._network.graph).graph.input)
        return True

    def get_error(self, index: int) -> str:
        return "In node 7 with name: odd and operator: Odd: UNSUPPORTED_NODE"


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> memoryview:
        return memoryview(self._data + b"tactics\n")


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self.shapes[input] = [list(min), list(opt), list(max)]


class IBuilderConfig:
    def __init__(self) -> None:
        self.profile = IOptimizationProfile()

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE
        assert pool_size > 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        return True

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        grows = all(
            a <= b <= c for e in profile.shapes.values() for a, b, c in zip(*e, strict=True)
        )
        self.profile = profile
        return 0 if grows else -1


class Builder:
    def __init__(self, logger: Logger) -> None:
        assert isinstance(logger, Logger)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        assert flags & (1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> memoryview | None:
        if os.environ.get("FAKE_TENSORRT") == "abort":
            os.abort()
        profile = dict(config.profile.shapes)
        for info in network.infos:
            shape = list(ITensor(info).shape)
            if info.name not in profile:
                if -1 in shape:
                    return None
                profile[info.name] = [shape] * 3
        return memoryview(make_plan(__version__, profile, network.graph))


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._memory: dict[str, int] = {}
        self._outputs: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.profile[name]
        fits = len(shape) == len(least)
        fits = fits and all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True))
        if fits:
            self._shapes[name] = tuple(shape)
        return fits

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._memory[name] = memory
        return memory != 0

    def infer_shapes(self) -> list[str]:
        lacking = [n for n in self._engine.inputs if n not in self._shapes]
        if not lacking:
            zeros = {n: np.zeros(self._shapes[n], self._engine.dtypes[n]) for n in self._shapes}
            self._outputs = self._engine._compute(zeros)
        return lacking

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name] if name in self._shapes else self._outputs[name].shape

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle
        inputs = {n: self._view(n, self._shapes[n]) for n in self._engine.inputs}
        for name, value in self._engine._compute(inputs).items():
            self._view(name, value.shape)[...] = value
        return True

    def _view(self, name: str, shape: tuple[int, ...]) -> Any:
        dtype = np.dtype(self._engine.dtypes[name])
        size = int(np.prod(shape)) * dtype.itemsize
        buffer = (ctypes.c_char * size).from_address(self._memory[name])
        return np.frombuffer(buffer, dtype).reshape(shape)


class ICudaEngine:
    def __init__(self, profile: dict[str, Any], graph: bytes) -> None:
        self.profile = profile
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        proto = onnx.load_from_string(graph).graph
        kind = onnx.helper.tensor_dtype_to_np_dtype
        self.inputs = [i.name for i in proto.input]
        self.outputs = [o.name for o in proto.output]
        self.dtypes = {
            i.name: kind(i.type.tensor_type.elem_type) for i in [*proto.input, *proto.output]
        }
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def _compute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        made = self._session.run(self.outputs, inputs)
        if os.environ.get("FAKE_TENSORRT") == "wrong":
            made = [np.roll(np.asarray(value), 1, axis=-1) for value in made]
        return dict(zip(self.outputs, made, strict=True))

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return next(kind for kind in DataType if kind.value == self.dtypes[name])

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        assert profile_index == 0
        return [tuple(end) for end in self.profile[name]]

    def create_execution_context(self, strategy: int = 0) -> IExecutionContext:
        return IExecutionContext(self)


class Runtime:
    def __init__(self, logger: Logger) -> None:
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        found = read_plan(serialized_engine)
        if found is None or found[0]["version"] != __version__:
            return None
        return ICudaEngine(found[0]["profile"], found[1])


class _Call:
    """A C function as ctypes gives it: it takes `argtypes` and `restype`."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        assert len(arguments) == len(self.argtypes)  # type: ignore[attr-defined]
        return self._call(*arguments)


class SimulatedCudart:
    """libcudart with this process's memory for the device's; `limit` bytes of it."""

    def __init__(self, limit: int = 2**30) -> None:
        self.held: dict[int, Any] = {}
        self.limit = limit
        self.cudaMalloc = _Call(self._malloc)
        self.cudaFree = _Call(lambda address: self.held.pop(address, None) and 0)
        self.cudaMemcpyAsync = _Call(self._copy)
        self.cudaStreamCreate = _Call(self._stream)
        self.cudaStreamSynchronize = _Call(lambda _: 0)
        self.cudaStreamDestroy = _Call(lambda _: 0)
        self.cudaGetErrorString = _Call(lambda _: b"out of memory")

    def _malloc(self, address: Any, size: int) -> int:
        if size > self.limit:
            return 2
        block = ctypes.create_string_buffer(size)
        address._obj.value = ctypes.addressof(block)
        self.held[ctypes.addressof(block)] = block
        return 0

    def _copy(self, to: int, source: int, size: int, kind: int, stream: int) -> int:
        device = to if kind == 1 else source
        assert any(start <= device < start + len(b) for start, b in self.held.items())
        ctypes.memmove(to, source, size)
        return 0

    def _stream(self, stream: Any) -> int:
        stream._obj.value = 1
        return 0


cuda.open_library = lambda _: SimulatedCudart()  # type: ignore[assignment,return-value]
