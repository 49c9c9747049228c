"""Flatbuffers of TFLite Metadata and of models, written from the leaves to the root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_IDENTIFIER = b"M001"


class Byte(int):
    """A field of one byte; another integer is the place of a table, list or text."""


class Number(int):
    """A field of four bytes."""


class MetadataWriter:
    """The parts of one document."""

    def __init__(self) -> None:
        import flatbuffers

        self.builder: Any = flatbuffers.Builder(1024)

    def text(self, value: str) -> int:
        """Write a text."""
        return int(self.builder.CreateString(value))

    def floats(self, values: Sequence[float]) -> int:
        """Write a list of float32."""
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return int(self.builder.EndVector())

    def numbers(self, values: Sequence[int]) -> int:
        """Write a list of uint32."""
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependUint32(value)
        return int(self.builder.EndVector())

    def list(self, places: Sequence[int]) -> int:
        """Write a list of tables or texts."""
        self.builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self.builder.PrependUOffsetTRelative(place)
        return int(self.builder.EndVector())

    def table(self, fields: Mapping[int, int]) -> int:
        """Write a table of fields by their number."""
        self.builder.StartObject(max(fields, default=-1) + 1)
        for slot, value in fields.items():
            if isinstance(value, Byte):
                self.builder.PrependUint8Slot(slot, value, 0)
            elif isinstance(value, Number):
                self.builder.PrependUint32Slot(slot, value, 0)
            else:
                self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(self.builder.EndObject())

    def finish(self, place: int) -> bytes:
        """Return the document whose root is a table."""
        self.builder.Finish(place, file_identifier=_IDENTIFIER)
        return bytes(self.builder.Output())


def packed(model: Any) -> bytes:
    """The model as one flatbuffer; the schema's own Pack forgets how constants are aligned."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    class Aligned(schema.BufferT):  # type: ignore[misc]  # the schema is not typed
        def Pack(self, builder: Any) -> Any:  # noqa: N802
            place = _bytes(builder, self.data) if self.data is not None else None
            schema.BufferStart(builder)
            if place is not None:
                schema.BufferAddData(builder, place)
            return schema.BufferEnd(builder)

    model.buffers = [Aligned(data=one.data) for one in model.buffers]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _bytes(builder: Any, data: Any) -> int:
    content = bytes(data)
    builder.StartVector(1, len(content), 16)
    builder.head -= len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    return int(builder.EndVector())
