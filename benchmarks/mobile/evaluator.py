"""How long the evaluator of Core ML programs takes, and how near float16 comes to the original.

usage: python benchmarks/mobile/evaluator.py [MODEL...]

MODEL is `minilm` or `smollm2` (both by default). Each is converted and saved in the toolchain
`coreml`, loaded again and run by one thread; seconds are of this process' processor as well, since
another one at work on the machine shows in the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
STEPS, CONTEXT, LENGTH = 17, 32, 64
TEXT = "The capital of France is Paris, and the capital of Italy is Rome. The capital of Spain"


def main() -> None:
    """Run this file again in the toolchain, once for each model."""
    sys.path.insert(0, str(SUPPORT))
    from real_model import minilm
    from smollm2 import smollm2

    from edgeward.compiler.progress import NullReporter
    from edgeward.compiler.toolchains.manager import Toolchains

    python = Toolchains().ensure("coreml", NullReporter()).python
    folders = {"minilm": minilm, "smollm2": smollm2}
    for name in sys.argv[1:] or list(folders):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        command = [python, __file__, "--inside", name, folders[name]()]
        subprocess.run(command, env=environment, check=True)


def inside(name: str, folder: Path) -> None:
    """Convert, save, load and run one model."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        {"minilm": _minilm, "smollm2": _smollm2}[name](folder, Path(scratch) / "m.mlpackage")


def _minilm(folder: Path, package: Path) -> None:
    import numpy as np

    from edgeward.compiler.formats.coreml_program import converted, save
    from edgeward.compiler.mil.program import load_program
    from edgeward.compiler.mobile.front import open_front
    from edgeward.compiler.reference_model import load_model, load_tokenizer
    from edgeward.compiler.tasks import task_spec

    task = "feature-extraction"
    model = load_model(folder, task_spec(task).auto_class)
    front = open_front(task, folder, model, {"batch": 1, "sequence": LENGTH})
    with _timed("converted"):
        save(converted(front.module, front.inputs, front.outputs, ios=18, wide=False), package)
    with _timed("loaded"):
        program = load_program(package)
    found = load_tokenizer(folder)(TEXT, padding="max_length", max_length=LENGTH)
    given = {name: np.asarray([found[name]], np.int32) for name in front.inputs}
    wanted = _reference(front, given)
    for rounded in (False, True):
        with _timed("rounded" if rounded else "exact"):
            (got, *_) = program.run(given, rounded=rounded).values()
        _say(f"  cosine {_cosine(got, wanted):.7f}, overflows {len(program.overflows)}")


def _smollm2(folder: Path, package: Path) -> None:
    import numpy as np
    import torch

    from edgeward.compiler.formats.coreml_program import converted, save
    from edgeward.compiler.mil.program import load_program
    from edgeward.compiler.mobile.decoder import open_decoder_front
    from edgeward.compiler.reference_model import load_model, load_tokenizer
    from edgeward.compiler.tasks import task_spec

    task = "text-generation"
    model = load_model(folder, task_spec(task).auto_class)
    ids = load_tokenizer(folder)(TEXT)["input_ids"][:STEPS]
    with torch.inference_mode():
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    front = open_decoder_front(task, folder, model, tokens=1, context=CONTEXT, stateful=True)
    with _timed("converted"):
        made = converted(
            front.module,
            front.inputs,
            front.outputs,
            ios=18,
            wide=False,
            states=_states(front.cache),
        )
        save(made, package)
    del model, made
    with _timed("loaded"):
        program = load_program(package)
    _say(f"  {sum(program.operators().values())} operators")
    state, rows = program.state(), []
    with _timed(f"{len(ids)} steps, rounded"):
        for at, one in enumerate(ids):
            given = {"input_ids": np.array([[one]], np.int32), "position": np.array([at], np.int32)}
            rows.append(program.run(given, state=state)[front.outputs[0]].reshape(-1))
    got = np.stack(rows)
    same = int((got.argmax(-1) == wanted.argmax(-1)).sum())
    _say(
        f"  {same} of {len(ids)} first tokens, cosine {_cosine(got, wanted):.7f}, "
        f"overflows {len(program.overflows)}"
    )


def _states(cache: Any) -> list[Any]:
    import coremltools as ct
    import numpy as np

    return [
        ct.StateType(ct.TensorType(shape=shape, dtype=np.float16), name=name)
        for name, shape in cache.items()
    ]


def _reference(front: Any, given: Any) -> Any:
    import torch

    with torch.inference_mode():
        found = front.module(*(torch.from_numpy(given[name]) for name in front.inputs))
    return (found[0] if isinstance(found, tuple) else found).numpy()


def _cosine(got: Any, wanted: Any) -> float:
    import numpy as np

    one, other = (array.astype(np.float64).ravel() for array in (got, wanted))
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@contextmanager
def _timed(what: str) -> Iterator[None]:
    wall, own = time.perf_counter(), time.process_time()
    yield
    own, wall = time.process_time() - own, time.perf_counter() - wall
    _say(f"{what}: {wall:.1f} s, of its own {own:.1f}")


def _say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
