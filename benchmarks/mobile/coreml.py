"""Core ML packages: ours beside a plain coremltools conversion of the same model, by the evaluator.

usage: python benchmarks/mobile/coreml.py MODEL [--task TASK] [--precisions A,B] [--out FOLDER]

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
from edgeward.targets.probe import probe

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
    parser.add_argument("--out", type=Path, help="Keep the table and a picture there.")
    asked = parser.parse_args()
    known = [precision for name, precision in RECIPES if name == "coreml"]
    precisions = asked.precisions.split(",") if asked.precisions else known
    rows = measured(asked.model, asked.task, precisions)
    if asked.out is not None:
        keep(asked.out, asked.model.name, rows)


def keep(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Write the table, and draw size and accuracy."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = probe()
    title = f"{name}; {machine.cpu_model}, Core ML packages by the evaluator\n\n"
    (folder / f"{name}.md").write_text(title + "\n".join([*head(rows[0]), *map(line, rows)]) + "\n")
    command = [room("plot"), PICTURE, folder / f"{name}.svg", name]
    subprocess.run(command, input=json.dumps(rows), text=True, check=True)


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
            for said in child.stdout or ():
                if said.startswith("{"):
                    rows.append(json.loads(said))
                    print(
                        "\n".join([*(head(rows[0]) if len(rows) == 1 else ()), line(rows[-1])]),
                        flush=True,
                    )
    if child.returncode:
        raise SystemExit(child.returncode)
    return rows


def head(row: dict[str, Any]) -> list[str]:
    """The table's first two lines."""
    return [f"| {' | '.join(row)} |", "|---" * len(row) + "|"]


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    cells = [value if isinstance(value, str) else f"{value:.5g}" for value in row.values()]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
