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

from .tflite_metadata_writer import Byte, MetadataWriter, Number, packed

NAME = "TFLITE_METADATA"
LABELS, VOCABULARY = "labels.txt", "vocab.txt"
_PIXELS = "pixel_values"
# AssociatedFileType: labels along the last axis, labels of values, a word on each line.
_AXIS_LABELS, _VALUE_LABELS, _WORDS = 2, 3, 5
# Of ProcessUnitOptions and of ContentProperties.
_NORMALISATION, _BERT_TOKENIZER = 1, 4
_IMAGE, _BOXES, _SOUND = 2, 3, 4
_RGB = 1
# BoundingBoxType BOUNDARIES, coordinates in shares: where left, top, right and bottom stand.
_BOUNDARIES, _CORNERS = 1, (1, 0, 3, 2)
# What stands for labels, by the outputs' names; category is a class's number.
_LABELLED = {
    "logits": _AXIS_LABELS,
    "scores": _AXIS_LABELS,
    "segmentation": _AXIS_LABELS,
    "category": _VALUE_LABELS,
}
# MediaPipe looks for this one, which no signature's output can be called.
_RENAMED = {"count": "number of detections"}
_LARGEST = (1 << 31) - (1 << 24)
_LEVELS = 255.0


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a model; `assets` are its own files.

    `vocabulary` is that of a tokenizer that the file asks for, `rate` that of the sounds it takes.
    """

    name: str
    license: str
    task: str
    labels: Sequence[str]
    assets: Path
    vocabulary: bytes = b""
    rate: int = 0


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
    target.write_bytes(packed(model))
    if files:
        with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
    return list(files)


def metadata_of(model: Any, about: About, files: Mapping[str, bytes]) -> bytes:
    """Return the metadata's own flatbuffer."""
    writer = MetadataWriter()
    graphs = []
    for signature in model.signatureDefs or []:
        tensors = model.subgraphs[signature.subgraphIndex]
        named = {
            one.tensorIndex: _text(one.name) for one in (*signature.inputs, *signature.outputs)
        }
        inputs = [_input(writer, named.get(i, ""), about, files) for i in tensors.inputs]
        outputs = [_output(writer, named.get(i, ""), files) for i in tensors.outputs]
        key = _text(signature.signatureKey)
        fields = {0: writer.text(key), 2: writer.list(inputs), 3: writer.list(outputs)}
        if about.vocabulary:
            fields[5] = writer.list([_tokenizer(writer)])
        graphs.append(writer.table(fields))
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


def _input(writer: MetadataWriter, name: str, about: About, files: Mapping[str, bytes]) -> int:
    fields = {0: writer.text(name)}
    if name in (_PIXELS, "image"):
        image = writer.table({0: Byte(_RGB)})
        fields[3] = writer.table({0: Byte(_IMAGE), 1: image})
        normalised = _normalisation(writer, about.assets) if name == _PIXELS else _plain(writer)
        if normalised is not None:
            fields[4] = writer.list([normalised])
    if name == "waveform":
        sound = writer.table({0: Number(about.rate), 1: Number(1)})
        fields[3] = writer.table({0: Byte(_SOUND), 1: sound})
    if name == "input_ids" and VOCABULARY in files:
        fields[6] = writer.list([_file(writer, VOCABULARY, _WORDS)])
    return writer.table(fields)


def _output(writer: MetadataWriter, name: str, files: Mapping[str, bytes]) -> int:
    fields = {0: writer.text(_RENAMED.get(name, name))}
    if name == "location":
        corners = writer.numbers(_CORNERS)
        boxes = writer.table({0: corners, 1: Byte(_BOUNDARIES)})
        fields[3] = writer.table({0: Byte(_BOXES), 1: boxes})
    if name in _LABELLED and LABELS in files:
        fields[6] = writer.list([_file(writer, LABELS, _LABELLED[name])])
    return writer.table(fields)


def _tokenizer(writer: MetadataWriter) -> int:
    options = writer.table({0: writer.list([_file(writer, VOCABULARY, _WORDS)])})
    return writer.table({0: Byte(_BERT_TOKENIZER), 1: options})


def _plain(writer: MetadataWriter) -> int:
    """Pixels as they are: one mean and deviation is all that MediaPipe knows, for all channels."""
    numbers = {0: writer.floats([0.0]), 1: writer.floats([1.0])}
    return writer.table({0: Byte(_NORMALISATION), 1: writer.table(numbers)})


def _file(writer: MetadataWriter, name: str, kind: int) -> int:
    return writer.table({0: writer.text(name), 2: Byte(kind)})


def _normalisation(writer: MetadataWriter, assets: Path) -> int | None:
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
    return writer.table({0: Byte(_NORMALISATION), 1: writer.table(dict(enumerate(numbers)))})


def _files(about: About) -> dict[str, bytes]:
    """Labels, and the vocabulary that BERT's tokenizers of those tools read."""
    found: dict[str, bytes] = {}
    if about.labels:
        lines = (" ".join(label.split()) for label in about.labels)
        found[LABELS] = "".join(f"{line}\n" for line in lines).encode()
    vocabulary = about.assets / VOCABULARY
    if about.vocabulary:
        found[VOCABULARY] = about.vocabulary
    elif vocabulary.is_file():
        found[VOCABULARY] = vocabulary.read_bytes()
    return found


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
