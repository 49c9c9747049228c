"""What llama.cpp's kernels reach here, in a process of its own.

`python -m edgeward.targets.calibration_llama THREADS` prints one JSON line, `Reached`, as
`calibration_onnxruntime.py` does for ONNX Runtime: by the types of GGUF files' tensors, which
llama.cpp mixes in one file.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from .blank_gguf import BlankLlama
from .calibration import PROMPT_ROWS, Clock, bytes_per_s, operations_per_s, usual_s
from .profile import Reached

# All that the planner knows mixes of, but for those that no recipe makes.
TYPES = (
    *("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0"),
    *("iq4_nl", "iq4_xs", "q3_k", "q2_k", "iq3_s", "iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs"),
)
SHORT, CONTEXT = 8, 1024
TURNS, SQUARES, TOKENS = 3, 3, 9
BYTES, HELD_BYTES = 96 * 2**20, 16 * 2**20
_BYTES_CACHED = 2
# What a profile may say of any share.
_MOST = 16.0


def products_of(kind: str, size: int = BYTES) -> BlankLlama:
    """Return a model that is all products, in any type too large for a processor's caches.

    Where they hold it a prompt takes less too: kernels go over the weights for a few tokens each.
    """
    layer = BlankLlama(kind, 1024, 16, 4, 64, 2816, layers=1)
    return replace(layer, layers=-(-size // layer.multiplied_bytes))


# As models have their heads: how many share a cache decides more than how large they are.
LAYERS = 12
ATTENTION = tuple(
    BlankLlama("q8_0", 1024, heads, cached, size, 256, LAYERS)
    for heads, cached, size in ((16, 16, 64), (16, 4, 64), (8, 2, 128), (4, 1, 256))
)


@dataclass(frozen=True, slots=True)
class Session:
    """A context of a blank model with room for CONTEXT tokens and some more."""

    context: Any
    clock: Clock

    def add(self, tokens: int) -> None:
        """Run tokens behind those it holds."""
        import numpy as np

        self.context.decode(np.zeros(tokens, np.int32), 1)

    def prompt_s(self) -> float:
        """Return what a prompt takes."""
        start = self.clock()
        self.add(PROMPT_ROWS)
        return max(self.clock() - start, 1e-9)

    def token_s(self) -> float:
        """Return what one more token takes, the usual of some."""
        return usual_s(lambda: self.add(1), TOKENS, self.clock)


class Looked(NamedTuple):
    """A token's attention: what its operations and its reading take of it at the full rates."""

    computing: float
    reading: float


def measure_kernels(threads: int) -> Reached:
    """Return what is reached, a prompt's products too as shares of the float32 rate.

    EngineError where llama.cpp is not there, OSError where there is no room for a blank file.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    token, prompt, held = {}, {}, {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / "blank.gguf"
        for kind in TYPES:
            session = _session(products_of(kind), path, threads, clock)
            turns = [_products(session, products_of(kind)) for _ in range(TURNS)]
            token[kind] = statistics.median(one for one, _ in turns)
            prompt[kind] = statistics.median(many for _, many in turns)
            few = products_of(kind, HELD_BYTES)
            session = _session(few, path, threads, clock)
            held[kind] = statistics.median(_token(session, few) for _ in range(TURNS))
        all_of_them, one = (
            [_looked(replace(model, layers=layers), path, threads, clock) for model in ATTENTION]
            for layers in (LAYERS, 1)
        )
    attention, cache = shares_of(all_of_them, prompt["f32"])
    attention_held, cache_held = shares_of(one, prompt["f32"])
    return Reached(
        attention,
        token,
        prompt,
        cache,
        held=held,
        attention_held=attention_held,
        cache_held=cache_held,
    )


def _session(model: BlankLlama, path: Path, threads: int, clock: Clock) -> Session:
    """A context that has warmed up, of a file that lies there as the engine would have it."""
    from edgeward.runtimes.bundle.gguf_header import read_header
    from edgeward.runtimes.engines.huge_pages import huge_pages
    from edgeward.runtimes.engines.llama import is_file_better_read
    from edgeward.runtimes.engines.llama_native import Context, ContextShape, Model

    # The file of the model before may still be mapped.
    path.unlink(missing_ok=True)
    model.write(path)
    copied = is_file_better_read(path, read_header(path))
    with huge_pages() if copied else nullcontext():
        loaded = Model(path, on_processor=True, copied=copied)
    room = CONTEXT + 2 * (TOKENS + 1) + SHORT
    context = Context(loaded, ContextShape(room, CONTEXT, 1, threads, exact=model.kind == "f32"))
    session = Session(context, clock)
    session.add(PROMPT_ROWS)
    return session


def _token(session: Session, model: BlankLlama) -> float:
    """The share of one token's products, with next to nothing behind it."""
    session.context.clear()
    before = operations_per_s(session.clock, repetitions=SQUARES)
    one = session.token_s()
    after = operations_per_s(session.clock, repetitions=SQUARES)
    return 2 * model.multiplied / statistics.mean((before, after)) / one


def _products(session: Session, model: BlankLlama) -> tuple[float, float]:
    """The shares of one token's products, with next to nothing behind it, and of a prompt's."""
    session.context.clear()
    before = operations_per_s(session.clock, repetitions=SQUARES)
    one = session.token_s()
    session.context.clear()
    many = session.prompt_s()
    after = operations_per_s(session.clock, repetitions=SQUARES)
    each = 2 * model.multiplied / statistics.mean((before, after))
    return each / one, PROMPT_ROWS * each / many


def _looked(model: BlankLlama, path: Path, threads: int, clock: Clock) -> Looked:
    """What a model's attention takes, the usual of some turns."""
    session = _session(model, path, threads, clock)
    return sorted(_attention(session, model) for _ in range(TURNS))[TURNS // 2]


def _attention(session: Session, model: BlankLlama) -> Looked:
    """What a token takes longer behind a long text, of the operations and bytes that are more."""
    session.context.clear()
    rate, speed = operations_per_s(session.clock, repetitions=SQUARES), bytes_per_s(session.clock)
    session.add(SHORT)
    short = session.token_s()
    session.add(CONTEXT)
    longer = max(session.token_s() - short, 1e-9)
    read = model.layers * 2 * _BYTES_CACHED * model.cached * model.size * CONTEXT
    return Looked(
        model.layers * 4 * model.heads * model.size * CONTEXT / rate / longer, read / speed / longer
    )


def shares_of(seen: Sequence[Looked], most: float) -> tuple[float, float]:
    """Return the shares of rate and bandwidth that attention reaches: what fits all models best.

    Computing and reading come one after the other. It computes no faster than `most`, which a
    prompt's products of floats reach, and reads no faster than 16 times the bandwidth.
    """
    import numpy as np

    rows = np.array([(each.computing, each.reading) for each in seen])
    one, other = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]
    if other < 0:
        one, other = _alone(rows[:, 0], np.ones(len(rows))), 0.0
    if one < 1 / most:
        one = 1 / most
        other = _alone(rows[:, 1], 1 - one * rows[:, 0])
    return min(most, 1 / one), 1 / max(other, 1 / _MOST)


def _alone(parts: Any, wanted: Any) -> float:
    """The factor of one kind of work alone that comes nearest to what is wanted."""
    return float(parts @ wanted / (parts @ parts))


if __name__ == "__main__":
    json.dump(asdict(measure_kernels(int(sys.argv[1]))), sys.stdout)
