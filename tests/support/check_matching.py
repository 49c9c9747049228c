"""Holds the quick exporter against the library's own; run with the `onnx` toolchain's Python.

usage: check_matching.py FOLDER, of a tiny text generator. Prints JSON: whether both write the same
bytes, and how often each did what the quick one leaves out: the first time, again, and plainly.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx_ir
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.onnx._internal.exporter import _registration
from torch.utils._traceback import CapturedTraceback

from edgeward.compiler.formats import onnx_decoder, onnx_exporter
from edgeward.compiler.reference_model import load_model, load_tokenizer
from edgeward.compiler.tasks import task_spec

WATCHED = {
    "nodes": (onnx_ir.Node, "op_identifier"),
    "outputs": (FakeTensorMode, "_get_output_tensor_from_cache_entry"),
    "sizes": (ShapeEnv, "_create_fx_call_function"),
    "traces": (CapturedTraceback, "summary"),
    "tables": (_registration.onnxscript_apis, "get_torchlib_ops"),
}
DONE: Counter[str] = Counter()


def main(folder: Path) -> None:
    model = load_model(folder, task_spec("text-generation").auto_class)
    tokenizer = load_tokenizer(folder)

    def write(target: Path) -> None:
        onnx_decoder.export_decoder(model, tokenizer, target, opset=20, tuned=True)

    for name, (owner, attribute) in WATCHED.items():
        watch(name, owner, attribute)
    turns = [counted(write), counted(write)]
    for name in ("quick_matching", "quick_tracing", "kept_torchlib"):
        setattr(onnx_exporter, name, nullcontext)
    turns.append(counted(write))
    files, counts = zip(*turns, strict=True)
    print(
        json.dumps({"same": len(set(files)) == 1, **{n: [c[n] for c in counts] for n in WATCHED}})
    )


def watch(name: str, owner: Any, attribute: str) -> None:
    """Count the calls of a function from now on."""
    asked = getattr(owner, attribute)

    def counting(*values: Any, **named: Any) -> Any:
        DONE[name] += 1
        return asked(*values, **named)

    setattr(owner, attribute, counting)


def counted(write: Callable[[Path], None]) -> tuple[bytes, Counter[str]]:
    """Return what was written, and what was done meanwhile."""
    DONE.clear()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "model.onnx")
        return (Path(folder) / "model.onnx").read_bytes(), DONE.copy()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
