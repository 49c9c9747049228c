"""What ONNX Runtime's kernels reach here, in a process of its own.

`python -m edgeward.targets.calibration_onnxruntime THREADS` prints one JSON line, `Reached`: of the
machine's float32 rate, which numpy's product reaches in the same minute, so that what slows the
whole machine meanwhile does not count. The engine is loaded as bundles are. The graphs are written
by `benchmarks/plan/calibration_graphs.py`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .calibration import PROMPT_ROWS, Clock, bytes_per_s, operations_per_s, usual_s
from .profile import Reached

GRAPHS = Path(__file__).with_name("calibration_graphs")
WIDTH = 2048
# How many layers take 96 MiB in each precision: too large for a processor's caches, as a model is.
LAYERS = {"fp32": 6, "int8-dynamic": 24, "int8-weights": 24, "int4-weights": 48}
# And 16 MiB, which a processor's caches may hold.
HELD_LAYERS = {precision: layers // 6 for precision, layers in LAYERS.items()}
# How many weights have a scale.
BLOCK = 32
CONTEXT = 1024
TURNS, SQUARES, TOKENS, PROMPTS = 5, 3, 9, 1


@dataclass(frozen=True, slots=True)
class Heads:
    """A layer's heads, how many of them have a cache, and their size."""

    query: int
    cached: int
    size: int

    @property
    def width(self) -> int:
        """What the projection before attention writes: queries, keys and values."""
        return (self.query + 2 * self.cached) * self.size


# As the small models of today have them: which size a head has matters as much as how many share
# a cache. 96 MiB too: behind a model's weights no layer's cache is in a processor's own.
ATTENTION = (Heads(16, 4, 64), Heads(8, 2, 128)) * 24


def measure_kernels(threads: int) -> Reached:
    """Return what is reached, a prompt's products too as shares of the float32 rate.

    EngineError where ONNX Runtime is not there.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    token, prompt, held = {}, {}, {}
    for precision, layers in LAYERS.items():
        session = _session(precision, threads)
        turns = [_products(session, layers, clock) for _ in range(TURNS)]
        token[precision] = statistics.median(one for one, _ in turns)
        prompt[precision] = statistics.median(many for _, many in turns)
        few, layers = _session(f"{precision}-held", threads), HELD_LAYERS[precision]
        held[precision] = statistics.median(_token(few, layers, clock) for _ in range(TURNS))
    attention = _session("attention", threads)
    shares = [_attention(attention, clock) for _ in range(TURNS)]
    return Reached(statistics.median(shares), token, prompt, held=held)


def _session(name: str, threads: int) -> Any:
    from edgeward.runtimes.engines.base import EngineOptions
    from edgeward.runtimes.engines.onnxruntime import open_model

    options = EngineOptions(providers=("CPUExecutionProvider",), threads=threads)
    return open_model(GRAPHS / f"{name}.onnx", options).native


def _token(session: Any, layers: int, clock: Clock) -> float:
    """The share of one row's products."""
    before = operations_per_s(clock, repetitions=SQUARES)
    one = _rows_per_s(session, 1, TOKENS, clock)
    after = operations_per_s(clock, repetitions=SQUARES)
    return one * 2 * WIDTH * WIDTH * layers / statistics.mean((before, after))


def _products(session: Any, layers: int, clock: Clock) -> tuple[float, float]:
    """The shares of one row's products and of a prompt's."""
    before = operations_per_s(clock, repetitions=SQUARES)
    one = _rows_per_s(session, 1, TOKENS, clock)
    many = _rows_per_s(session, PROMPT_ROWS, PROMPTS, clock)
    after = operations_per_s(clock, repetitions=SQUARES)
    each = 2 * WIDTH * WIDTH * layers / statistics.mean((before, after))
    return one * each, many * each


def _rows_per_s(session: Any, rows: int, repetitions: int, clock: Clock) -> float:
    import numpy as np

    fed = {"rows_0": np.full((rows, WIDTH), 0.01, np.float32)}
    return rows / usual_s(lambda: session.run(None, fed), repetitions, clock)


def _attention(session: Any, clock: Clock) -> float:
    binding = _bound(session)
    rate = operations_per_s(clock, repetitions=SQUARES)
    seconds = usual_s(lambda: session.run_with_iobinding(binding), TOKENS, clock)
    products = sum(4 * each.query * each.size * CONTEXT for each in ATTENTION)
    read = sum(2 * 4 * each.cached * each.size * CONTEXT for each in ATTENTION)
    computing = max(seconds - read / bytes_per_s(clock), seconds / 10)
    return products / computing / rate


def _bound(session: Any) -> Any:
    """One token behind a full cache; past and present are one buffer, as when text is written."""
    import numpy as np
    from onnxruntime import OrtValue

    binding = session.io_binding()
    binding.bind_cpu_input("rows", np.full((1, 1, ATTENTION[0].width), 0.1, np.float32))
    binding.bind_cpu_input("before", np.array([CONTEXT - 1], np.int32))
    binding.bind_cpu_input("total", np.array(CONTEXT, np.int32))
    for number, heads in enumerate(ATTENTION):
        for name in (f"k_{number}", f"v_{number}"):
            room = np.full((1, heads.cached, CONTEXT, heads.size), 0.1, np.float32)
            value = OrtValue.ortvalue_from_numpy(room)
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(f"new_{name}", value)
        binding.bind_output(f"seen_{number}")
    return binding


if __name__ == "__main__":
    json.dump(asdict(measure_kernels(int(sys.argv[1]))), sys.stdout)
