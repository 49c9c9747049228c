"""Passages of several lengths in one batch: padding changes nothing, or it leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeward.compiler.generation_padded import padded_metrics
from edgeward.runtimes.proof.generation import GenerationCase, generation_case

VOCABULARY = 7


class Decoder:
    """Logits that follow from all tokens seen so far; `leaks` what is padded too."""

    def __init__(self, *, batched: bool = True, leaks: bool = False) -> None:
        self.batched, self._leaks = batched, leaks
        self.shapes: list[tuple[int, ...]] = []

    def start(self, rows: int = 1) -> Decoder:
        """Begin."""
        assert rows > 0
        return self

    def step(self, ids: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> Any:
        """Add tokens."""
        self.shapes.append(ids.shape)
        seen = ids + 1 if self._leaks else (ids + 1) * mask
        sums = seen.cumsum(axis=1)
        return np.sin(sums[..., None] * np.arange(1, VOCABULARY + 1)).astype(np.float32) * 3


def cases(*lengths: int) -> list[GenerationCase]:
    found = []
    for number, length in enumerate(lengths):
        ids = (np.arange(length) * 3 + number) % VOCABULARY
        logits = Decoder().step(ids[None], np.ones((1, length)))[0]
        found.append(generation_case(f"{number}", "", ids.tolist(), logits, (1, 2), positions=None))
    return found


def test_padding_that_is_masked_changes_nothing() -> None:
    decoder: Any = Decoder()
    found = padded_metrics(decoder, cases(8, 3, 20, 1, 500, 5, 6))
    assert decoder.shapes == [(4, 20)]
    assert found["padded_kl_mean"] < 1e-6
    assert found["padded_top1_agreement"] == 1
    assert found["padded_perplexity_ratio"] == pytest.approx(1, abs=1e-5)


def test_padding_that_leaks_is_seen() -> None:
    decoder: Any = Decoder(leaks=True)
    assert padded_metrics(decoder, cases(8, 3, 20))["padded_kl_mean"] > 0.1


def test_a_graph_of_one_row_and_a_lone_passage_say_nothing() -> None:
    single: Any = Decoder(batched=False)
    assert padded_metrics(single, cases(8, 3)) == {}
    many: Any = Decoder()
    assert padded_metrics(many, cases(8, 500)) == {}
