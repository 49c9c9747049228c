"""What a graph is calibrated on, written by one stage and read by the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError
from edgeward.runtimes.tasks.decoder import KEPT_LOGITS
from edgeward.runtimes.tasks.generation import context_limit
from edgeward.runtimes.tasks.pooling import read_json

SAMPLES = "samples.safetensors"
WINDOW, MOST_WINDOWS = 128, 32
_PAST = "past_key_values."
Sample = dict[str, NDArray[Any]]


def token_windows(folder: Path, tokenizer: Any, texts: Sequence[str]) -> list[Sample]:
    """Return texts one after the other as a generator reads them: (1, 128) ids, 32 at most."""
    ids = list(tokenizer(" ".join(texts))["input_ids"])
    length = min(context_limit(folder, read_json(folder / "config.json")) or WINDOW, WINDOW)
    starts = range(0, len(ids), length)[:MOST_WINDOWS]
    return [{"input_ids": np.array([ids[at : at + length]], np.int64)} for at in starts]


def read_samples(folder: Path, model: Path) -> Callable[[], Iterator[Sample]]:
    """Return what gives every sample with all that the graph takes, as often as it is called.

    What a generator's graph takes beside its ids follows from them: all of them attended to, no
    past. Raises UnsupportedError for an input that nothing is known of.
    """
    import onnx
    from safetensors.numpy import load_file

    inputs = list(onnx.load(model, load_external_data=False).graph.input)
    tensors = load_file(folder / SAMPLES)
    numbers = sorted({int(name.split(".")[0]) for name in tensors})

    def give() -> Iterator[Sample]:
        for number in numbers:
            start = f"{number}."
            held = {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}
            yield {value.name: _value(value, held) for value in inputs}

    return give


def _value(value: Any, held: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    name = value.name
    if name in held:
        return held[name]
    ids = held.get("input_ids")
    if ids is not None:
        if name == "attention_mask":
            return np.ones_like(ids)
        if name == "position_ids":
            return np.ones_like(ids).cumsum(axis=1) - 1
        if name == KEPT_LOGITS:
            return np.array(0, np.int64)
        if name.startswith(_PAST):
            _, heads, _, width = (axis.dim_value for axis in value.type.tensor_type.shape.dim)
            return np.zeros((len(ids), heads, 0, width), np.float32)
    raise UnsupportedError(
        "The graph cannot be calibrated", why=f"nothing is known of its input {name}"
    )
