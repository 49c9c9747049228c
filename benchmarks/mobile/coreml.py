"""Core ML packages: ours beside a plain coremltools conversion of the same model, by the evaluator.

usage: python benchmarks/mobile/coreml.py MODEL [--task TASK] [--precisions A,B] [--picture OUT.svg]

Both are made in the `coreml` toolchain, one thread, and each saved package is read again and run
operator by operator, rounded to float16, against the float32 original on sentences that neither
was calibrated on. Plain is what coremltools' guide does: `ct.convert` of the original behind an
additive mask, then `coremltools.optimize.coreml` with its defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgeward.compiler.progress import NullReporter
from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.toolchains.manager import Toolchains

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "onnx"))

from peers import room

ROOT = Path(__file__).resolve().parents[2]
CONTESTANT = Path(__file__).with_name("coreml_contestant.py")
PICTURE = Path(__file__).with_name("coreml_picture.py")


def main() -> None:
    """Print the table, row by row as it comes; draw the picture at the end."""
    parser = argparse.ArgumentParser(description="Ours beside plain coremltools.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", default="feature-extraction")
    parser.add_argument("--precisions", default="")
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    known = [precision for name, precision in RECIPES if name == "coreml"]
    precisions = asked.precisions.split(",") if asked.precisions else known
    rows = measured(asked.model, asked.task, precisions)
    if asked.picture is not None:
        draw(asked.picture, f"{asked.model.name}: Core ML packages by the evaluator", rows)


def draw(picture: Path, title: str, rows: list[dict[str, Any]]) -> None:
    """Draw size and accuracy."""
    given = json.dumps(rows)
    subprocess.run([room("plot"), PICTURE, picture, title], input=given, text=True, check=True)


def measured(model: Path, task: str, precisions: list[str]) -> list[dict[str, Any]]:
    """Run the contestant; each of its lines is a row."""
    python = Toolchains().ensure("coreml", NullReporter()).python
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [python, CONTESTANT, model.resolve(), task, folder, *precisions]
        with subprocess.Popen(
            list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True
        ) as child:
            for line in child.stdout or ():
                if line.startswith("{"):
                    rows.append(json.loads(line))
                    show(rows)
    if child.returncode:
        raise SystemExit(child.returncode)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the newest row, the head before the first."""
    row = rows[-1]
    figures = [name for name in row if name not in ("precision", "who")]
    if len(rows) == 1:
        print(f"| precision | who | {' | '.join(figures)} |\n" + "|---" * (len(row)) + "|")
    cells = [f"{row[name]:.5g}" if row[name] is not None else "fails" for name in figures]
    print(f"| {row['precision']} | {row['who']} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
