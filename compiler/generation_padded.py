"""Real passages of several lengths in one batch: what padding costs a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeward.runtimes.proof.generation import Floats, GenerationCase, distribution_metrics
from edgeward.runtimes.tasks.decoder import Decoder

_ROWS, _LONGEST = 4, 160
_TOLD = ("kl_mean", "top1_agreement", "perplexity_ratio")


@dataclass(frozen=True, slots=True)
class _Row:
    """A row's logits (its own tokens, vocabulary), and what it was continued with elsewhere."""

    rows: Floats
    greedy: tuple[int, ...]

    def logits(self, ids: Sequence[int]) -> Floats:
        return self.rows[-len(ids) :]

    def continued(self, ids: Sequence[int], tokens: int) -> list[int]:
        del ids
        return list(self.greedy[:tokens])


def padded_metrics(graph: Decoder, cases: Sequence[GenerationCase]) -> dict[str, float]:
    """Run up to four cases at once, the shorter ones padded on their left.

    Returns `padded_kl_mean`, `padded_top1_agreement` and `padded_perplexity_ratio`; nothing for a
    graph that takes one row.
    """
    batch = [case for case in cases if 1 < len(case.ids) <= _LONGEST][:_ROWS]
    if not graph.batched or len(batch) < 2:
        return {}
    longest = max(len(case.ids) for case in batch)
    ids = np.zeros((len(batch), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, case in enumerate(batch):
        ids[row, longest - len(case.ids) :] = case.ids
        mask[row, longest - len(case.ids) :] = 1
    logits = graph.start(len(batch)).step(ids, mask)
    told = [(_Row(rows, case.greedy), case) for rows, case in zip(logits, batch, strict=True)]
    found = distribution_metrics(told)
    return {f"padded_{name}": found[name] for name in _TOLD}
