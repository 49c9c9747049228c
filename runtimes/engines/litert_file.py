"""What a TFLite file holds, read and checked without a runtime: LiteRT trusts what it loads.

Format: TensorFlow Lite's schema.fbs, version 3 (identifier TFL3).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from edgeward.errors import EngineError

from .litert_flatbuffer import Table, damaged, root
from .litert_operators import OPERATORS

IDENTIFIER = b"TFL3"
_VERSION = 3
# Bits of an element by the schema's TensorType; what is not here has no bytes of a fixed size.
TYPES: Mapping[int, tuple[str, int]] = {
    0: ("float32", 32),
    1: ("float16", 16),
    2: ("int32", 32),
    3: ("uint8", 8),
    4: ("int64", 64),
    6: ("bool", 8),
    7: ("int16", 16),
    8: ("complex64", 64),
    9: ("int8", 8),
    10: ("float64", 64),
    12: ("uint64", 64),
    15: ("uint32", 32),
    16: ("uint16", 16),
    17: ("int4", 4),
    18: ("bfloat16", 16),
    19: ("int2", 2),
    20: ("uint4", 4),
}
_LARGEST = 1 << 40
_ABSENT = -1
_BLOCKWISE = 2


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor: `size` are the bytes of its constant, 0 where it is computed.

    `scales` is how many it is quantised by; one in `blocks` has them along its rows.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    scales: int = 0
    blocks: bool = False

    @property
    def constant(self) -> bool:
        """Whether its values lie in the file."""
        return self.size > 0


@dataclass(frozen=True, slots=True)
class FileOperator:
    """An operator by its name, the version of its kernel, and the tensors it reads and writes."""

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileGraph:
    """One subgraph."""

    tensors: Sequence[FileTensor]
    operators: Sequence[FileOperator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileSignature:
    """A named way in: tensors by the names of its inputs and outputs."""

    name: str
    graph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TFLiteFile:
    """All that a file says, but for its constants' values."""

    graphs: Sequence[FileGraph]
    signatures: Sequence[FileSignature]
    metadata: Mapping[str, bytes]


def read_tflite(path: Path) -> TFLiteFile:
    """Read and check a file; EngineError where it is none, is damaged or cannot be read."""
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            return parse_tflite(data)
    except (OSError, ValueError) as error:
        raise EngineError(f"{path.name} cannot be read", why=str(error)[:300]) from error


def parse_tflite(data: memoryview) -> TFLiteFile:
    """Read and check a file's bytes; EngineError as `read_tflite`."""
    if len(data) < 12 or bytes(data[4:8]) != IDENTIFIER:
        raise EngineError("This is no TFLite file", why="it does not say TFL3 in its first bytes")
    model = root(data)
    version = model.number(0, "I")
    if version != _VERSION:
        raise EngineError(f"TFLite files of version {version} are not known", why="3 is")
    buffers = [_buffer(data, table) for table in model.tables(4)]
    codes = [_code(table) for table in model.tables(1)]
    graphs = [_graph(table, buffers, codes) for table in model.tables(2)]
    if not graphs:
        raise damaged("it has no graph")
    signatures = [_signature(table, graphs) for table in model.tables(7)]
    metadata = {}
    for table in model.tables(6):
        start, size = buffers[_index(table.number(1, "I"), len(buffers), "buffer")]
        metadata[table.text(0)] = bytes(data[start : start + size])
    return TFLiteFile(graphs, signatures, metadata)


def places_of_scales(data: memoryview) -> Iterator[tuple[int, int]]:
    """Give where the scales of each tensor in blocks lie, float16: first byte and how many."""
    model = root(data)
    buffers = [_buffer(data, table) for table in model.tables(4)]
    for graph in model.tables(2):
        tensors = graph.tables(0)
        for tensor in tensors:
            quantisation = tensor.table(4)
            if quantisation is None or quantisation.number(4, "B") != _BLOCKWISE:
                continue
            details = quantisation.table(5)
            if details is not None:
                scales = tensors[_index(details.number(0, "i"), len(tensors), "tensor")]
                yield buffers[_index(scales.number(2, "I"), len(buffers), "buffer")]


def _buffer(data: memoryview, table: Table) -> tuple[int, int]:
    """Return where a buffer's bytes lie; large ones stand behind the flatbuffer."""
    start, size = table.number(1, "Q"), table.number(2, "Q")
    # Offsets of 0 and 1 are placeholders of writers that put nothing there.
    if start <= 1:
        return table.bytes(0)
    if start + size > len(data):
        raise damaged(f"a buffer of {size} bytes at {start} leaves the file")
    return start, size


def _code(table: Table) -> tuple[str, int]:
    number = max(table.number(0, "b"), table.number(3, "i"))
    if not 0 <= number < len(OPERATORS):
        raise EngineError(f"The TFLite file has an operator {number}, which is not known")
    name = OPERATORS[number]
    return (table.text(1) or name) if name == "CUSTOM" else name, table.number(2, "i", 1)


def _graph(
    table: Table, buffers: Sequence[tuple[int, int]], codes: Sequence[tuple[str, int]]
) -> FileGraph:
    tensors = [_tensor(one, buffers) for one in table.tables(0)]

    def listed(owner: Table, field: int, *, may_lack: bool = False) -> tuple[int, ...]:
        found = owner.numbers(field, "i")
        for index in found:
            if not (may_lack and index == _ABSENT):
                _index(index, len(tensors), "tensor")
        return found

    operators = []
    for one in table.tables(3):
        name, version = codes[_index(one.number(0, "I"), len(codes), "operator code")]
        given = listed(one, 1, may_lack=True)
        operators.append(FileOperator(name, version, given, listed(one, 2)))
    return FileGraph(tensors, operators, listed(table, 1), listed(table, 2))


def _tensor(table: Table, buffers: Sequence[tuple[int, int]]) -> FileTensor:
    name, shape, kind = table.text(3), table.numbers(0, "i"), table.number(1, "b")
    size = buffers[_index(table.number(2, "I"), len(buffers), "buffer")][1]
    if any(length < 0 for length in shape) or prod(shape) > _LARGEST:
        raise damaged(f"{name[:60]} has the shape {list(shape)[:8]}")
    dtype, bits = TYPES.get(kind, (f"type {kind}", 0))
    wanted = -(-prod(shape) * bits // 8)
    if size and bits and size != wanted:
        raise damaged(f"{name[:60]} has {size} bytes, its shape needs {wanted}")
    quantisation = table.table(4)
    if quantisation is None:
        return FileTensor(name, dtype, shape, size)
    scales, blocks = quantisation.numbers(2, "f"), quantisation.number(4, "B") == _BLOCKWISE
    return FileTensor(name, dtype, shape, size, len(scales), blocks)


def _signature(table: Table, graphs: Sequence[FileGraph]) -> FileSignature:
    graph = _index(table.number(4, "I"), len(graphs), "graph")
    count = len(graphs[graph].tensors)

    def named(field: int) -> dict[str, int]:
        pairs = table.tables(field)
        return {one.text(0): _index(one.number(1, "I"), count, "tensor") for one in pairs}

    return FileSignature(table.text(2), graph, named(0), named(1))


def _index(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise damaged(f"it names {what} {index} of {count}")
    return index
