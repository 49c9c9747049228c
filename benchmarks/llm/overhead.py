"""`generate()` against a bare loop over llama-cpp-python's low-level functions.

usage: python benchmarks/llm/overhead.py MODEL_FOLDER FILE.gguf [--rounds 20] [--tokens 32] [--cpu]

One thread, both in one process over the same loaded weights, in turn (A B A B), so that drift of
the machine meets both alike. Prints the median time to the first token and of each token after it,
and the median ratio of pairs; with --cpu in processor time, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp
import numpy as np

from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.llama import LlamaSession, open_model
from edgeward.runtimes.tasks.generation import Generator

PASSAGE = "The ferry to the northern islands leaves from the second pier at a quarter past seven. "
PROMPTS = {"18 tokens": PASSAGE, "200 tokens": PASSAGE * 11}
WARMUP = 2
Stream = Callable[[str, int], Iterator[object]]


class Bare:
    """What an app would write by hand: one context, greedy, pieces as they come."""

    def __init__(self, session: LlamaSession, tokens: int, batch: int) -> None:
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = tokens, batch, batch
        settings.n_threads = settings.n_threads_batch = 1
        self._context = llama_cpp.llama_init_from_model(session.native.pointer, settings)
        self._vocabulary = session.native.vocabulary
        self._size = session.native.tokens

    def __call__(self, prompt: str, most: int) -> Iterator[object]:
        """Give the text of every token."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        data = prompt.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, data, len(data), ids, len(ids), True, True
        )
        buffer = ctypes.create_string_buffer(64)
        for _ in range(most):
            llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(ids, count))
            logits = np.ctypeslib.as_array(
                llama_cpp.llama_get_logits_ith(self._context, -1), (self._size,)
            )
            ids[0], count = int(logits.argmax()), 1
            size = llama_cpp.llama_token_to_piece(self._vocabulary, ids[0], buffer, 64, 0, False)
            yield buffer.raw[: max(size, 0)]


def measured(
    stream: Stream, prompt: str, most: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Return milliseconds to the first token and of a token after it."""
    began = clock()
    pieces = stream(prompt, most)
    next(pieces)
    first = clock()
    rest = sum(1 for _ in pieces)
    return (first - began) * 1e3, (clock() - first) * 1e3 / max(rest, 1)


def compare(
    ours: Stream, bare: Stream, prompt: str, most: int, rounds: int, clock: Callable[[], float]
) -> None:
    """Print a line for the first token and one for those after it."""
    found: list[list[tuple[float, float]]] = [[], []]
    for number in range(WARMUP + rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            times = measured((ours, bare)[which], prompt, most, clock)
            if number >= WARMUP:
                found[which].append(times)
    for place, name in enumerate(("first token", "each after")):
        mine, other = ([times[place] for times in side] for side in found)
        ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
        print(
            f"  {name:12} generate() {statistics.median(mine):8.2f} ms   "
            f"bare {statistics.median(other):8.2f} ms   ratio {ratio:.4f}"
        )


def main() -> None:
    """Measure every prompt."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    session = open_model(given.file, EngineOptions(threads=1))
    generator = Generator(given.model, session)
    bare = Bare(session, 512, 512)
    print(f"{session.ref.name} {session.ref.version}, {session.ref.provider}, 1 thread")
    for name, prompt in PROMPTS.items():
        print(f"a prompt of about {name}, {given.tokens} more")
        compare(
            lambda text, most: generator.stream(text, max_tokens=most),
            bare, prompt, given.tokens, given.rounds, clock,
        )  # fmt: skip


if __name__ == "__main__":
    main()
