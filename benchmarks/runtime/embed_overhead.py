"""`embed()` against the same calls made straight to tokenizers and onnxruntime.

usage: python benchmarks/runtime/embed_overhead.py BUNDLE [--rounds 30]

One thread, both in one process, in turn for every call (A B A B), so that drift of the machine
meets both alike. Both use one InferenceSession: two of the same file differ by up to 3 %, which is
not what is asked here. Prints the median of each and the median ratio of pairs, statistics on.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgeward.runtimes import load
from edgeward.runtimes.engines.onnxruntime import OnnxRuntimeSession
from edgeward.runtimes.tasks.pooling import read_pipeline
from edgeward.targets.probe import probe

SHORT = "Where is gate B12?"
LONG = " ".join(["The train to the airport leaves every fifteen minutes from platform three."] * 8)
CASES = {"1 short text": [SHORT], "1 long text": [LONG], "8 short texts": [SHORT] * 8}
WARMUP = 10


def straight(
    folder: Path, session: onnxruntime.InferenceSession
) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Return the calls that an app would write by hand."""
    names = [value.name for value in session.get_inputs()]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    pipeline = read_pipeline(folder)
    if pipeline.max_tokens:
        tokenizer.enable_truncation(pipeline.max_tokens)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = tokenizer.encode_batch(texts)
        mask = np.array([e.attention_mask for e in encoded], np.int64)
        given = {
            "input_ids": np.array([e.ids for e in encoded], np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([e.type_ids for e in encoded], np.int64),
        }
        hidden = session.run(["last_hidden_state"], {name: given[name] for name in names})[0]
        return _mean(hidden, mask)

    return embed


def _mean(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """The model card's mean pooling and normalisation, in numpy."""
    weights = np.expand_dims(mask, -1).astype(np.float32)
    vectors = (hidden * weights).sum(1) / np.clip(weights.sum(1), 1e-9, None)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def compare(first: Callable[[], object], second: Callable[[], object], rounds: int) -> list[float]:
    """Return medians in ms of both and the median ratio, calling them in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(WARMUP + rounds):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            began = time.perf_counter()
            (first, second)[which]()
            if number >= WARMUP:
                times[which].append((time.perf_counter() - began) * 1e3)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return [statistics.median(times[0]), statistics.median(times[1]), statistics.median(ratios)]


def main() -> None:
    """Measure every case and print a line each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=300)
    given = parser.parse_args()
    machine = probe()
    print(f"{machine.cpu_model}, {machine.cores} cores, {platform.machine()}; "
          f"onnxruntime {onnxruntime.__version__}, 1 thread")  # fmt: skip
    session = load(given.bundle, threads=1)
    if not isinstance(session.engine, OnnxRuntimeSession):
        raise SystemExit(f"{given.bundle} does not run in ONNX Runtime")
    by_hand = straight(given.bundle, session.engine.native)
    for name, texts in CASES.items():
        np.testing.assert_allclose(session.embed(texts), by_hand(texts), atol=1e-6)
        ours, theirs, ratio = compare(
            partial(session.embed, texts), partial(by_hand, texts), given.rounds
        )
        print(f"{name:14} embed() {ours:8.3f} ms   straight {theirs:8.3f} ms   ratio {ratio:.4f}")


if __name__ == "__main__":
    main()
