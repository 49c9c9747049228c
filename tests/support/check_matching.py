"""Holds the quick matching of patterns against the library's own; run with the `onnx` toolchain.

usage: check_matching.py FOLDER, of a tiny text generator. Prints JSON: whether both write the same
bytes, and how many nodes of the graph each looked at.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx_ir

from edgeward.compiler.formats import onnx_decoder, onnx_exporter
from edgeward.compiler.reference_model import load_model, load_tokenizer
from edgeward.compiler.tasks import task_spec


def main(folder: Path) -> None:
    model = load_model(folder, task_spec("text-generation").auto_class)
    tokenizer = load_tokenizer(folder)

    def write(target: Path) -> None:
        onnx_decoder.export_decoder(model, tokenizer, target, opset=20, tuned=True)

    quick, seen = counted(write)
    onnx_exporter.quick_matching = nullcontext
    plain, listed = counted(write)
    print(json.dumps({"same": quick == plain, "seen": seen, "listed": listed}))


def counted(write: Callable[[Path], None]) -> tuple[bytes, int]:
    """Return what was written, and how often a node was asked for its operator."""
    asked = onnx_ir.Node.op_identifier
    count = 0

    def counting(node: Any) -> Any:
        nonlocal count
        count += 1
        return asked(node)

    onnx_ir.Node.op_identifier = counting
    try:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "model.onnx")
            return (Path(folder) / "model.onnx").read_bytes(), count
    finally:
        onnx_ir.Node.op_identifier = asked


if __name__ == "__main__":
    main(Path(sys.argv[1]))
