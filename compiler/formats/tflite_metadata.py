"""TFLite Metadata: names, labels and normalisation as MediaPipe and LiteRT's tools read them.

Schema: tflite-support's metadata_schema.fbs (identifier M001). Files that it names are a zip behind
the flatbuffer, stored, as those tools open it.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "TFLITE_METADATA"
LABELS, VOCABULARY = "labels.txt", "vocab.txt"
_IDENTIFIER = b"M001"
_PIXELS = "pixel_values"
# AssociatedFileType: labels along the last axis, a word on each line.
_AXIS_LABELS, _WORDS = 2, 5
_NORMALISATION, _IMAGE, _RGB = 1, 2, 1
_LARGEST = (1 << 31) - (1 << 24)
_LEVELS = 255.0


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a model; `assets` are its own files."""

    name: str
    license: str
    task: str
    labels: Sequence[str]
    assets: Path


def write_described(source: Path, target: Path, about: About) -> list[str]:
    """Write a copy of a TFLite file that says what it is; the names of the files within.

    Buffers lie in the flatbuffer, each at a multiple of 16 bytes: older compilers know no other
    place. What is too large for one stays as it was.
    """
    if source.stat().st_size > _LARGEST:
        shutil.copyfile(source, target)
        return []
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    files = _files(about)
    model: Any = flatbuffer_utils.read_model(str(source))
    document = metadata_of(model, about, files)
    model.buffers.append(schema.BufferT(data=document))
    entry = schema.MetadataT(name=NAME, buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or []), entry]
    target.write_bytes(_packed(model))
    if files:
        with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
    return list(files)


def metadata_of(model: Any, about: About, files: Mapping[str, bytes]) -> bytes:
    """Return the metadata's own flatbuffer."""
    import flatbuffers

    writer = _Writer(flatbuffers.Builder(1024))
    graphs = []
    for signature in model.signatureDefs or []:
        tensors = model.subgraphs[signature.subgraphIndex]
        named = {
            one.tensorIndex: _text(one.name) for one in (*signature.inputs, *signature.outputs)
        }
        inputs = [_input(writer, named.get(i, ""), about, files) for i in tensors.inputs]
        outputs = [_output(writer, named.get(i, ""), files) for i in tensors.outputs]
        key = _text(signature.signatureKey)
        graphs.append(
            writer.table({0: writer.text(key), 2: writer.list(inputs), 3: writer.list(outputs)})
        )
    root = writer.table(
        {
            0: writer.text(about.name),
            1: writer.text(f"{about.task}, compiled by edgeward"),
            2: writer.text("1"),
            3: writer.list(graphs),
            **({5: writer.text(about.license)} if about.license else {}),
            7: writer.text("1.0.0"),
        }
    )
    return writer.finish(root)


def _input(writer: _Writer, name: str, about: About, files: Mapping[str, bytes]) -> int:
    fields = {0: writer.text(name)}
    if name == _PIXELS:
        image = writer.table({0: _Byte(_RGB)})
        fields[3] = writer.table({0: _Byte(_IMAGE), 1: image})
        normalised = _normalisation(writer, about.assets)
        if normalised is not None:
            fields[4] = writer.list([normalised])
    if name == "input_ids" and VOCABULARY in files:
        fields[6] = writer.list([_file(writer, VOCABULARY, _WORDS)])
    return writer.table(fields)


def _output(writer: _Writer, name: str, files: Mapping[str, bytes]) -> int:
    fields = {0: writer.text(name)}
    if name == "logits" and LABELS in files:
        fields[6] = writer.list([_file(writer, LABELS, _AXIS_LABELS)])
    return writer.table(fields)


def _file(writer: _Writer, name: str, kind: int) -> int:
    return writer.table({0: writer.text(name), 2: _Byte(kind)})


def _normalisation(writer: _Writer, assets: Path) -> int | None:
    """The original's mean and deviation, of pixels from 0 to 255."""
    path = assets / "preprocessor_config.json"
    if not path.is_file():
        return None
    settings = json.loads(path.read_text("utf-8"))
    mean, spread = settings.get("image_mean"), settings.get("image_std")
    if not settings.get("do_normalize", True) or not isinstance(mean, list) or not spread:
        return None
    levels = 1.0 / float(settings.get("rescale_factor") or 1.0 / _LEVELS)
    numbers = [writer.floats([float(v) * levels for v in values]) for values in (mean, spread)]
    return writer.table({0: _Byte(_NORMALISATION), 1: writer.table(dict(enumerate(numbers)))})


def _files(about: About) -> dict[str, bytes]:
    """Labels, and the vocabulary that BERT's tokenizers of those tools read."""
    found: dict[str, bytes] = {}
    if about.labels:
        lines = (" ".join(label.split()) for label in about.labels)
        found[LABELS] = "".join(f"{line}\n" for line in lines).encode()
    vocabulary = about.assets / VOCABULARY
    if vocabulary.is_file():
        found[VOCABULARY] = vocabulary.read_bytes()
    return found


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class _Byte(int):
    """A field of one byte; another integer is the place of a table, list or text."""


class _Writer:
    """A flatbuffer's parts from the leaves to the root."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def text(self, value: str) -> int:
        return int(self.builder.CreateString(value))

    def floats(self, values: Sequence[float]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return int(self.builder.EndVector())

    def list(self, places: Sequence[int]) -> int:
        self.builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self.builder.PrependUOffsetTRelative(place)
        return int(self.builder.EndVector())

    def table(self, fields: Mapping[int, int]) -> int:
        self.builder.StartObject(max(fields) + 1)
        for slot, value in fields.items():
            if isinstance(value, _Byte):
                self.builder.PrependUint8Slot(slot, value, 0)
            else:
                self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(self.builder.EndObject())

    def finish(self, place: int) -> bytes:
        self.builder.Finish(place, file_identifier=_IDENTIFIER)
        return bytes(self.builder.Output())


def _packed(model: Any) -> bytes:
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
