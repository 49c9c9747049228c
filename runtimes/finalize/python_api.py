"""Building with TensorRT's Python package, in a child process of this Python."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from .builder import EngineBuilder, Order, is_importable, three_numbers

MODULE = "tensorrt"
ASK_SECONDS = 120.0
_WORKER = (sys.executable, "-m", "edgeward.runtimes.finalize.python_build")


@dataclass(frozen=True, slots=True)
class PythonBuilder:
    """An EngineBuilder by the Python package."""

    version: str
    name: str = "python"

    def command(self, order: Order) -> list[str]:
        """Return the worker's command, the order as JSON."""
        shapes = {
            each.name: [list(each.least), list(each.usual), list(each.most)]
            for each in order.shapes
        }
        document = {
            "onnx": str(order.onnx),
            "plan": str(order.plan),
            "timing_cache": str(order.timing_cache),
            "workspace_mib": order.workspace_mib,
            "shapes": shapes,
        }
        return [*_WORKER, json.dumps(document)]


def find_python() -> EngineBuilder | str:
    """Return the builder where the package imports, in a child as it may abort; else why not."""
    if not is_importable(MODULE):
        return "Python's tensorrt package is not installed"
    try:
        done = subprocess.run(
            [*_WORKER, "--version"],
            capture_output=True,
            timeout=ASK_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"Python's tensorrt package does not import: {type(error).__name__}"
    said = done.stdout.decode("utf-8", "replace").split()
    version = three_numbers(said[-1]) if said and done.returncode == 0 else None
    if version is None:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it says nothing"]
        return f"Python's tensorrt package does not import: {words[-1][:300]}"
    return PythonBuilder(version)
