"""Weights of several graphs in one file beside them, each stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .graph import INLINE_LIMIT_BYTES, Graph

LEAST_BYTES = 4096
_PAGE = 4096


class SharedWeights:
    """A graph's large weights, taken out of it: other graphs refer to them by name and place."""

    def __init__(self, graph: Graph, location: str) -> None:
        self.location = location
        self._tensors: dict[str, Any] = {}
        self._offsets: dict[str, int] = {}
        self._end = 0
        for tensor in graph.proto.initializer:
            if len(tensor.raw_data) >= LEAST_BYTES:
                self._take(tensor)

    @property
    def size(self) -> int:
        """How many bytes the file has."""
        return self._end

    @property
    def must_lie_beside(self) -> bool:
        """Whether they are more than a graph can hold."""
        return self._end > INLINE_LIMIT_BYTES

    def put_back(self, graph: Graph) -> None:
        """Store them in a graph that refers to them."""
        for tensor in graph.proto.initializer:
            if tensor.name in self._tensors:
                tensor.CopyFrom(self._tensors[tensor.name])

    def write(self, folder: Path) -> None:
        """Write the file, page by page, so that an engine can map it into memory."""
        with (folder / self.location).open("wb") as file:
            for name, tensor in self._tensors.items():
                file.seek(self._offsets[name])
                file.write(tensor.raw_data)

    def _take(self, tensor: Any) -> None:
        from onnx import TensorProto

        kept = TensorProto()
        kept.CopyFrom(tensor)
        self._tensors[tensor.name] = kept
        self._offsets[tensor.name] = offset = -(-self._end // _PAGE) * _PAGE
        length = len(tensor.raw_data)
        self._end = offset + length
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        told = {"location": self.location, "offset": offset, "length": length}
        for key, value in told.items():
            tensor.external_data.add(key=key, value=str(value))
