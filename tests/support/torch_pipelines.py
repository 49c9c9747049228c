"""Prints what transformers' own pipelines say; run with the `onnx` toolchain's Python.

usage: torch_pipelines.py, with JSON rows [task, folder, argument, options] on stdin.
"""

from __future__ import annotations

import json
import sys

from transformers import pipeline


def main() -> None:
    """Answer every row."""
    found = []
    for task, folder, argument, options in json.load(sys.stdin):
        asked = pipeline(task, model=folder, tokenizer=folder, device="cpu")
        found.append(asked(argument, **options))
    json.dump(found, sys.stdout, default=float)


if __name__ == "__main__":
    main()
