"""What an encoder's graph is asked, and how near its answers are to the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.compiler.texts import proof_texts
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.proof.registry import proof_for
from edgeward.runtimes.session import load
from edgeward.runtimes.tasks.tokens import load_tokenizer

TEXTS = 32
Inputs = Mapping[str, NDArray[Any]]


def evaluation(bundle: Bundle) -> list[Inputs]:
    """Return the inputs of one row each: texts, else what the bundle's golden cases hold."""
    manifest = bundle.manifest
    if manifest.task == "feature-extraction":
        return _texts(bundle.path)
    cases = proof_for(manifest.task).read_cases(bundle.path)
    if manifest.task == "automatic-speech-recognition":
        task = load(bundle, threads=1).sequences
        return [task.inputs(case.samples) for case in cases]
    return [case.inputs for case in cases.cases]


def _texts(folder: Path) -> list[Inputs]:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    tokenizer.no_padding()
    found = []
    for text in proof_texts().evaluation[:TEXTS]:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        found.append({"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0})
    return found


def mean_cosine(outputs: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> float:
    """Return the mean cosine of the states at every place, over all inputs."""
    cosines = [_cosine(one, other) for one, other in zip(outputs, wanted, strict=True)]
    return float(np.mean(cosines))


def _cosine(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Rows are the last axis: a token's, a patch's or a frame's state."""
    one, other = (
        states.reshape(-1, states.shape[-1]).astype(np.float64) for states in (first, second)
    )
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())
