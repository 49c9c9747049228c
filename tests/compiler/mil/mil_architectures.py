"""Converts tiny random models of many architectures; each package is held against its front end.

`mil_architectures.py RESULTS`, inside the toolchain `coreml`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import make_heads
import numpy as np
import torch
from make_encoders import write as write_encoder
from mil_check import distance
from mil_rows_architectures import ARCHITECTURES

from edgeward.compiler.formats.coreml_program import converted, save
from edgeward.compiler.mil.program import load_program
from edgeward.compiler.mobile.front import open_front
from edgeward.compiler.reference_model import load_model
from edgeward.compiler.tasks import task_spec

TEXT = "feature-extraction"
SIZES = {
    "text": {"batch": 1, "sequence": 12},
    "image": {"batch": 1, "height": 64, "width": 64},
    "audio": {"batch": 1, "samples": 8000},
}


def checked(task: str, folder: Path, package: Path) -> dict[str, Any]:
    """Return how far a saved package is from what was converted, and its operators."""
    spec = task_spec(task)
    model = load_model(folder, spec.auto_class)
    front = open_front(task, folder, model, SIZES[spec.modality])
    # The converter gives weights as float16: the original's are made so before.
    with torch.no_grad():
        for one in front.module.parameters():
            one.copy_(one.half().float())
    save(converted(front.module, front.inputs, front.outputs, ios=18, wide=False), package)
    program = load_program(package)
    given = {name: _example(one) for name, one in front.inputs.items()}
    with torch.inference_mode():
        wanted = front.module(*(torch.from_numpy(one) for one in given.values()))
    return {
        "operators": sorted(program.operators()),
        "exact": distance(program, given, wanted, rounded=False),
        "rounded": distance(program, given, wanted, rounded=True),
        "overflows": [one.operator for one in program.overflows],
    }


def _example(tensor: torch.Tensor) -> Any:
    random = np.random.default_rng(11)
    if tensor.is_floating_point():
        found = random.uniform(-1, 1, tuple(tensor.shape))
        return found.astype(np.float16).astype(np.float32)
    return tensor.numpy().copy()


def made(root: Path) -> None:
    """Write the models."""
    for model_type in ARCHITECTURES[TEXT]:
        write_encoder(root / TEXT / model_type, model_type)
    make_heads.images(root)
    make_heads.sounds(root)


def main() -> None:
    """Check every architecture; one that fails stops no other."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        made(root)
        for task, model_types in ARCHITECTURES.items():
            for one in model_types:
                try:
                    name = f"{task}/{one}"
                    found[name] = checked(task, root / name, root / f"{one}.mlpackage")
                except Exception:  # noqa: BLE001, PERF203
                    found[name] = {"error": traceback.format_exc()[-1500:]}
    Path(sys.argv[1]).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
