"""Makes a bundle that lies: perturbed weights behind the manifest of the good one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgeward.runtimes.bundle.manifest import MANIFEST_NAME
from edgeward.runtimes.bundle.read import open_bundle, sha256_of

_LARGE = 4096


def break_bundle(good: Path, broken: Path) -> None:
    """Copy a bundle, turn its large weights end for end, and write digests that fit.

    Everything that a signature and a checksum can tell is right: only running it shows the harm.
    """
    bundle = open_bundle(good)
    shutil.copytree(good, broken)
    model = broken / bundle.manifest.entry
    _perturb(model)
    document = json.loads((broken / MANIFEST_NAME).read_text())
    for entry in document["files"]:
        if entry["path"] == bundle.manifest.entry:
            entry.update(size=model.stat().st_size, sha256=sha256_of(model))
    (broken / MANIFEST_NAME).write_text(json.dumps(document, indent=1, sort_keys=True))


def _perturb(path: Path) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size >= _LARGE:
            turned = np.ascontiguousarray(values.reshape(-1)[::-1]).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))
    onnx.save(model, path)
