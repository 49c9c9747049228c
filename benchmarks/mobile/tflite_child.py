"""Holds models of one environment for `tflite.py`, and runs one of them when it is asked.

usage: tflite_child.py INPUTS.npz FILE... Reads the number of a file a line; writes the seconds that
one run took. `save PATH` writes what every file gives.
`convert MODEL INPUTS.npz PATH` converts the plain way.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.registry import engine_for


def main() -> None:
    """Serve, or convert and end."""
    if sys.argv[1] == "convert":
        convert(*sys.argv[2:])
        return
    inputs = dict(np.load(sys.argv[1]))
    runs = [opened(Path(name), inputs) for name in sys.argv[2:]]
    print("ready", flush=True)
    for line in sys.stdin:
        if line.startswith("save"):
            found = {str(n): run() for n, run in enumerate(runs)}
            np.savez(line.split(maxsplit=1)[1].strip(), **found)
            print("saved", flush=True)
            continue
        began = time.perf_counter()
        runs[int(line)]()
        print(time.perf_counter() - began, flush=True)


def opened(path: Path, inputs: dict[str, Any]) -> Any:
    """Return a call that runs a file once, by edgeward's own engine."""
    engine = engine_for(path.suffix[1:])
    session = engine.open_model(path, EngineOptions(threads=1))
    given = {name: inputs[name] for name in map(plain_name, session.inputs)}
    fed = {name: given[plain_name(name)] for name in session.inputs}
    return lambda: session.run_prepared(fed, session.outputs[:1])[0]


def plain_name(name: str) -> str:
    """A converted model's own names have nothing before them."""
    return name.removeprefix("args_")


def convert(model: str, inputs: str, path: str) -> None:
    """Convert a model as litert-torch's own page does, and write what torch gives beside it."""
    import litert_torch
    import torch
    from transformers import AutoModel

    torch.set_num_threads(1)
    loaded = AutoModel.from_pretrained(model, local_files_only=True).eval()
    given = {name: torch.from_numpy(value) for name, value in np.load(inputs).items()}
    with torch.no_grad():
        np.save(f"{path}.npy", loaded(**given).last_hidden_state.numpy())

    class First(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = loaded

        def forward(self, **named: Any) -> Any:
            return {"last_hidden_state": self.model(**named, return_dict=False)[0]}

    litert_torch.convert(First().eval(), sample_kwargs=given).export(path)


if __name__ == "__main__":
    main()
