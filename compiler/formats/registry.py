"""Which formats there are, as strings; a wheel of its own adds one by an entry point."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import cast

from edgeward.errors import UsageError

from .base import Format

FORMATS = {
    "onnx": "edgeward.compiler.formats.onnx",
    "gguf": "edgeward.compiler.formats.gguf",
    "compressed": "edgeward.compiler.formats.compressed",
    "tflite": "edgeward.compiler.formats.tflite",
    "coreml": "edgeward.compiler.formats.coreml",
}
GROUP = "edgeward.formats"


def format_module(name: str) -> Format:
    """Import a format by its name; UsageError names those that there are."""
    outside = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    module = FORMATS.get(name) or outside.get(name)
    if module is None:
        known = ", ".join(sorted({*FORMATS, *outside}))
        raise UsageError(f"Unknown format {name!r}", why=f"known: {known}")
    return cast(Format, importlib.import_module(module))
