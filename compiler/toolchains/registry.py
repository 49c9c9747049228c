"""Which toolchains there are: a name, and the lock file that makes it."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from edgeward.errors import ToolchainError

TOOLCHAINS: dict[str, str] = {
    "torch": "torch.lock",
    "onnx": "onnx.lock",
    "onnxruntime": "onnxruntime.lock",
    "onnxruntime-1.23": "onnxruntime-1.23.lock",
    "gguf": "gguf.lock",
    "llama": "llama.lock",
    "compressed": "compressed.lock",
    "modelopt": "modelopt.lock",
    "litert": "litert.lock",
    "litert-runtime": "litert-runtime.lock",
    "tflite-runtime": "tflite-runtime.lock",
    "coreml": "coreml.lock",
}
ENTRY_POINTS = "edgeward.toolchains"


def toolchain_names() -> list[str]:
    """Return every known name: the built-in ones, then those of other wheels."""
    others = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return [*TOOLCHAINS, *sorted(others - set(TOOLCHAINS))]


def lock_path(name: str) -> Path:
    """Return the lock file of a toolchain.

    Another wheel adds one by an entry point `name = "package.module:LOCK"` where LOCK is the lock
    file's path. Raises ToolchainError for a name that nobody gives.
    """
    if name in TOOLCHAINS:
        return Path(__file__).parent / TOOLCHAINS[name]
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return Path(point.load())
    raise ToolchainError(
        f"there is no toolchain named {name}",
        why=f"Known: {', '.join(toolchain_names())}.",
        next="edgeward doctor",
    )
