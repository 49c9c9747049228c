"""A TFLite file made by hand: y = x + 1 for each of its shapes, in float32 or int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

_FLOAT32, _INT8 = 0, 9
_ADD_OPTIONS = 11


@dataclass(frozen=True)
class Byte:
    """A field of one byte."""

    value: int


@dataclass(frozen=True)
class Whole:
    """A field of four bytes."""

    value: int


class Builder:
    """Parts of a flatbuffer, the leaves first."""

    def __init__(self) -> None:
        self.native: Any = flatbuffers.Builder(1024)

    def table(self, fields: Mapping[int, Any]) -> int:
        self.native.StartObject(max(fields, default=-1) + 1)
        for slot, value in fields.items():
            if isinstance(value, Byte):
                self.native.PrependInt8Slot(slot, value.value, 0)
            elif isinstance(value, Whole):
                self.native.PrependInt32Slot(slot, value.value, 0)
            else:
                self.native.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(self.native.EndObject())

    def list(self, places: Sequence[int]) -> int:
        self.native.StartVector(4, len(places), 4)
        for place in reversed(places):
            self.native.PrependUOffsetTRelative(place)
        return int(self.native.EndVector())

    def numbers(self, values: Sequence[float], dtype: str = "int32") -> int:
        return int(self.native.CreateNumpyVector(np.array(values, dtype)))

    def text(self, value: str) -> int:
        return int(self.native.CreateString(value))

    def finish(self, place: int) -> bytes:
        self.native.Finish(place, file_identifier=b"TFL3")
        return bytes(self.native.Output())


def tiny_tflite(
    shapes: Mapping[str, Sequence[int]], *, integers: bool = False, constant: bytes | None = None
) -> bytes:
    """Return a file with a signature a shape, by its name; input `x` and output `y`.

    `constant` are other bytes than those of the one that is added. With `integers` x and y are
    int8, x of scale 0.5 and zero point 3, y of scale 0.25 and zero point -1.
    """
    b = Builder()
    added = np.array([4 if integers else 1], np.int8 if integers else np.float32).tobytes()
    data = b.native.CreateByteVector(constant if constant is not None else added)
    buffers = [b.table({}), b.table({0: data})]
    graphs = [_graph(b, shape, integers) for shape in shapes.values()]
    signatures = []
    for number, name in enumerate(shapes):
        given, told = (
            b.list([b.table({0: b.text(port), 1: Whole(index)})])
            for port, index in (("x", 0), ("y", 2))
        )
        signatures.append(b.table({0: given, 1: told, 2: b.text(name), 4: Whole(number)}))
    code = b.table({0: Byte(0), 2: Whole(2 if integers else 1)})
    root = b.table(
        {
            0: Whole(3),
            1: b.list([code]),
            2: b.list(graphs),
            3: b.text("tiny"),
            4: b.list(buffers),
            7: b.list(signatures),
        }
    )
    return b.finish(root)


def write_tiny(path: Path, shapes: Mapping[str, Sequence[int]], **more: Any) -> Path:
    """Write such a file."""
    path.write_bytes(tiny_tflite(shapes, **more))
    return path


def _graph(b: Builder, shape: Sequence[int], integers: bool) -> int:
    kind = _INT8 if integers else _FLOAT32

    def tensor(name: str, size: Sequence[int], buffer: int, scale: float, zero: int) -> int:
        fields: dict[int, Any] = {
            0: b.numbers(size),
            1: Byte(kind),
            2: Whole(buffer),
            3: b.text(name),
        }
        if integers:
            scales, zeros = b.numbers([scale], "float32"), b.numbers([zero], "int64")
            fields[4] = b.table({2: scales, 3: zeros})
        return b.table(fields)

    tensors = [
        tensor("x", shape, 0, 0.5, 3),
        tensor("one", [1], 1, 0.25, 0),
        tensor("y", shape, 0, 0.25, -1),
    ]
    options = b.table({0: Byte(0)})
    operator = b.table(
        {
            0: Whole(0),
            1: b.numbers([0, 1]),
            2: b.numbers([2]),
            3: Byte(_ADD_OPTIONS),
            4: options,
        }
    )
    listed = [b.list(tensors), b.numbers([0]), b.numbers([2]), b.list([operator])]
    return b.table({**dict(enumerate(listed)), 4: b.text("main")})
