"""What LiteRT's kernels reach here, in a process of its own.

`python -m edgeward.targets.calibration_litert THREADS` prints one JSON line, `Reached`: the shares
of the bandwidth at which a token's attention reads all that its heads see of the cache, and writes
the cache, and by precision the shares of the float32 rate that a token's products and a prompt's
reach. A decoder's graph goes through every slot, writes them anew and copies them for each head
that shares one: what that takes depends on what the processor's caches hold. The decoders are
written by `benchmarks/plan/calibration_decoder.py`.
"""

from __future__ import annotations

import json
import lzma
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .calibration import PROMPT_ROWS, Clock, bytes_per_s, operations_per_s, usual_s
from .profile import Reached

if TYPE_CHECKING:
    from edgeward.runtimes.tasks.slots import SlottedDecoder

TURNS, SQUARES, TOKENS = 5, 3, 9
_FLOAT = 4
# Of a vocabulary as small as a tokenizer may have.
WORDS = 400


@dataclass(frozen=True, slots=True)
class Decoder:
    """The sizes of a Llama: all that it takes is its attention's, or its products'."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    cached: int
    size: int
    context: int

    @property
    def multiplied(self) -> int:
        """The weights that each token is multiplied with, the head too."""
        attention = 2 * self.hidden * self.size * (self.heads + self.cached)
        layer = attention + 3 * self.hidden * self.intermediate
        return self.layers * layer + WORDS * self.hidden

    @property
    def seen_bytes(self) -> int:
        """What all heads of all layers see of the cache."""
        return self.layers * 2 * self.heads * self.size * self.context * _FLOAT


# Four heads share what is cached, or each has its own: what is written anew told from what is seen.
# What a layer's heads see is 8 MiB, or 2, which more of a processor's caches hold.
ATTENTION: Mapping[str, Decoder] = {
    "attention": Decoder(16, 32, layers=2, heads=16, cached=4, size=64, context=1024),
    "attention-near": Decoder(16, 32, layers=2, heads=16, cached=4, size=64, context=256),
    "attention-single": Decoder(16, 32, layers=2, heads=8, cached=8, size=64, context=1024),
}
# 96 MiB and more, what a processor's caches hold is faster; of attention next to nothing.
PRODUCTS: Mapping[str, Decoder] = {
    precision: Decoder(1024, 2816, layers=layers, heads=1, cached=1, size=64, context=PROMPT_ROWS)
    for precision, layers in (("fp32", 3), ("int8-dynamic", 12), ("int4-weights", 24))
}
# Unpacked to floats while they are loaded: the same kernels.
_AS_FLOATS = "int8-weights"


def file_of(name: str) -> Path:
    """Return where the decoder of a name lies."""
    return Path(__file__).parent / "calibration_graphs" / f"{name}.tflite.xz"


def measure_kernels(threads: int) -> Reached:
    """Return what is reached; EngineError where LiteRT is not there."""
    clock = time.process_time if threads == 1 else time.perf_counter
    looked = []
    for name, decoder in ATTENTION.items():
        texts = _opened(name, threads)
        looked.append(statistics.median(_attention(texts, decoder, clock) for _ in range(TURNS)))
    token, prompt = {}, {}
    for precision, decoder in PRODUCTS.items():
        texts = _opened(precision, threads)
        turns = [_products(texts, decoder, clock) for _ in range(TURNS)]
        token[precision] = statistics.median(one for one, _ in turns)
        prompt[precision] = statistics.median(many for _, many in turns)
    for shares in (token, prompt):
        shares[_AS_FLOATS] = shares["fp32"]
    cache, near, written = shares_of(*looked)
    return Reached(token=token, prompt=prompt, cache=cache, near=near, written=written)


def shares_of(grouped: float, near: float, single: float) -> tuple[float, float, float | None]:
    """Return the shares of the bandwidth at which heads see a cache, a near one, and write it.

    Given is how often each decoder of ATTENTION could have read all that its heads see while it
    ran: of the first two a quarter of that was written too, of the last all. None where writing
    took no time of its own; at least a tenth of the others is taken to be seeing.
    """
    written = min((single - grouped) * 4 / 3, 4 * 0.9 * min(grouped, near))
    if written <= 0:
        return 1 / grouped, 1 / near, None
    return 1 / (grouped - written / 4), 1 / (near - written / 4), 1 / written


def _opened(name: str, threads: int) -> SlottedDecoder:
    from edgeward.runtimes.engines.base import EngineOptions
    from edgeward.runtimes.engines.litert import open_model
    from edgeward.runtimes.engines.litert_decoder import LiteRTDecoder
    from edgeward.runtimes.tasks.slots import SlottedDecoder

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / f"{name}.tflite"
        path.write_bytes(lzma.decompress(file_of(name).read_bytes()))
        session = open_model(path, EngineOptions(threads=threads))
    assert isinstance(session, LiteRTDecoder)  # noqa: S101 - the file is ours
    return SlottedDecoder(session.slotted)


def _attention(texts: SlottedDecoder, decoder: Decoder, clock: Clock) -> float:
    """How often all that its heads see could have been read while a token was run."""
    speed = bytes_per_s(clock)
    return _token_s(texts, clock) * speed / decoder.seen_bytes


def _products(texts: SlottedDecoder, decoder: Decoder, clock: Clock) -> tuple[float, float]:
    """The shares of one token's products and of a prompt's."""
    before = operations_per_s(clock, repetitions=SQUARES)
    many = usual_s(lambda: texts.start().next_logits([0] * PROMPT_ROWS), 1, clock)
    one = _token_s(texts, clock)
    after = operations_per_s(clock, repetitions=SQUARES)
    each = 2 * decoder.multiplied / statistics.mean((before, after))
    return each / one, PROMPT_ROWS * each / many


def _token_s(texts: SlottedDecoder, clock: Clock) -> float:
    text = texts.start()
    return usual_s(lambda: text.next_logits([0]), TOKENS, clock)


if __name__ == "__main__":
    json.dump(asdict(measure_kernels(int(sys.argv[1]))), sys.stdout)
