"""CUDA's runtime library by ctypes: memory, copies and a stream, all that an engine needs.

https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__MEMORY.html
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgeward.errors import EngineError

from .base import Tensor

_NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_TOOLKIT = Path("/usr/local/cuda/lib64/libcudart.so")
_TO_DEVICE, _TO_HOST = 1, 2


class Cuda:
    """The calls, each raising EngineError with CUDA's own words; addresses are integers."""

    def __init__(self, library: Any) -> None:
        self._library = library
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        for name, arguments in {
            "cudaMalloc": [ctypes.POINTER(pointer), size],
            "cudaFree": [pointer],
            "cudaMemcpyAsync": [pointer, pointer, size, number, pointer],
            "cudaStreamCreate": [ctypes.POINTER(pointer)],
            "cudaStreamSynchronize": [pointer],
            "cudaStreamDestroy": [pointer],
        }.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, number
        library.cudaGetErrorString.argtypes = [number]
        library.cudaGetErrorString.restype = ctypes.c_char_p

    def allocate(self, size: int) -> int:
        """Return the address of so many bytes on the device."""
        address = ctypes.c_void_p()
        self._check(self._library.cudaMalloc(ctypes.byref(address), size), f"{size} bytes")
        return address.value or 0

    def free(self, address: int) -> None:
        """Give memory back; a device that is gone has none."""
        self._library.cudaFree(address)

    def stream(self) -> int:
        """Return a new stream."""
        stream = ctypes.c_void_p()
        self._check(self._library.cudaStreamCreate(ctypes.byref(stream)), "a stream")
        return stream.value or 0

    def destroy(self, stream: int) -> None:
        """End a stream."""
        self._library.cudaStreamDestroy(stream)

    def copy_in(self, address: int, array: Tensor, stream: int) -> None:
        """Copy an array to the device; it must live until the stream is waited for."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def copy_out(self, array: Tensor, address: int, stream: int) -> None:
        """Copy from the device into an array, which is filled once the stream is waited for."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST, stream)

    def wait(self, stream: int) -> None:
        """Wait until all that was put on the stream is done."""
        self._check(self._library.cudaStreamSynchronize(stream), "the stream")

    def _copy(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        if size:
            code = self._library.cudaMemcpyAsync(to, source, size, kind, stream)
            self._check(code, f"a copy of {size} bytes")

    def _check(self, code: int, what: str) -> None:
        if code:
            said = self._library.cudaGetErrorString(code) or b"no reason"
            words = said.decode("utf-8", "replace")
            raise EngineError(f"CUDA failed at {what}", why=f"{words} (error {code})")


def open_cuda() -> Cuda:
    """Open CUDA's runtime library; EngineError where there is none."""
    library = open_library(_candidates())
    if library is not None:
        return Cuda(library)
    raise EngineError(
        "CUDA's runtime library is not here",
        why=f"none of {', '.join(_NAMES)} can be opened",
        next="on a Jetson: sudo apt-get install nvidia-jetpack; elsewhere: "
        "pip install nvidia-cuda-runtime-cu12",
    )


def open_library(names: Iterable[str]) -> ctypes.CDLL | None:
    """Return the first library that opens; None where none does."""
    return next((found for name in names if (found := _opened(name)) is not None), None)


def _opened(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _candidates() -> Iterator[str]:
    yield from _NAMES
    yield str(_TOOLKIT)
    try:
        found = importlib.util.find_spec("nvidia.cuda_runtime")
    except ImportError:
        return
    for folder in (found.submodule_search_locations or []) if found else []:
        yield from map(str, sorted(Path(folder).glob("lib/libcudart.so.*")))
