"""Which engine runs which format, as strings."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from typing import cast

from edgeward.errors import EngineError

from .base import Engine

ENGINES = {
    "coreml": "edgeward.runtimes.engines.coreml",
    "litert": "edgeward.runtimes.engines.litert",
    "llama": "edgeward.runtimes.engines.llama",
    "onnxruntime": "edgeward.runtimes.engines.onnxruntime",
    "tensorrt": "edgeward.runtimes.engines.tensorrt",
}
ENGINE_OF_FORMAT = {
    "compressed": "transformers",
    "coreml": "coreml" if sys.platform == "darwin" else "mil",
    "gguf": "llama",
    "onnx": "onnxruntime",
    "tflite": "litert",
}
GROUP = "edgeward.engines"


def engine_for(format_name: str) -> Engine:
    """Return the engine's module for a bundle's format, or by the engine's own name.

    Raises EngineError where no engine is known for it or its package is not installed.
    """
    outside = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    name = ENGINE_OF_FORMAT.get(format_name, format_name)
    module = ENGINES.get(name) or outside.get(name)
    if module is None:
        known = ", ".join(sorted({*ENGINE_OF_FORMAT, *outside}))
        raise EngineError(f"No engine runs the format {format_name!r}", why=f"known: {known}")
    return cast(Engine, importlib.import_module(module))
