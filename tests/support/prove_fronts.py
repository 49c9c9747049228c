"""Proves front ends of tiny models; run with a toolchain's Python.

usage: prove_fronts.py HEADS ENCODERS PAIR…, a pair being TASK/MODEL_TYPE. Prints a JSON object a
pair: its name, the largest difference and the number of cases, or the error.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from edgeward.compiler.mobile.front import open_front
from edgeward.compiler.mobile.proved import prove_front
from edgeward.compiler.reference_model import load_another
from edgeward.compiler.tasks import FEATURE_EXTRACTION, task_spec

SIZES = {"batch": 2, "sequence": 24, "samples": 4000, "texts": 3, "images": 1}


def prove(folder: Path, task: str) -> dict[str, Any]:
    """Build one front end and hold it against the original."""
    model = load_another(folder, task_spec(task).auto_class)
    front = open_front(task, folder, model, SIZES)
    program = torch.export.export(front.module, tuple(front.inputs.values()), strict=False)
    operators = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    return {**prove_front(front, task, folder, SIZES), "operators": sorted(operators)}


def main() -> None:
    """Prove each pair."""
    heads, encoders, *pairs = sys.argv[1:]
    torch.set_num_threads(1)
    for pair in pairs:
        task, _, model_type = pair.partition("/")
        plain = task == FEATURE_EXTRACTION
        folder = Path(encoders) / model_type if plain else Path(heads) / task / model_type
        started = time.process_time()
        try:
            found = prove(folder, task)
        except Exception as error:  # noqa: BLE001  # a pair's failure is its result
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        found["seconds"] = round(time.process_time() - started, 1)
        print(json.dumps({"pair": pair, **found}), flush=True)


if __name__ == "__main__":
    main()
