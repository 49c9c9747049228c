"""A whole bundle around a GGUF file: the model's own files, a manifest, no golden cases."""

from __future__ import annotations

import json
from pathlib import Path

from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle

_WEIGHTS = (".safetensors", ".bin", ".onnx", ".h5", ".gguf")


def gguf_bundle(destination: Path, model: Path, file: Path, task: str) -> Bundle:
    """Write it; `model` is the original's folder."""
    architecture = json.loads((model / "config.json").read_text())["architectures"][0]
    entry = f"{model.name}-F16.gguf"
    with writing_bundle(destination) as writer:
        for path in sorted(model.rglob("*")):
            if path.is_file() and path.suffix not in _WEIGHTS:
                writer.add(path.relative_to(model).as_posix(), path)
        writer.add(entry, file)
        writer.write_manifest(
            {
                "schema_version": "1.0",
                "name": destination.name,
                "task": task,
                "entry": entry,
                "source": {
                    "id": model.name,
                    "architecture": architecture,
                    "weights_sha256": "0" * 64,
                },
                "target": {"name": "x86-64-cpu", "digest": "0" * 64},
                "recipe": {"format": "gguf", "precision": "f16"},
                "files": [one.model_dump(mode="json") for one in writer.files()],
                "inputs": [],
                "outputs": [],
                "proof": {"verified": "engine", "checks": []},
            }
        )
    return open_bundle(destination)
