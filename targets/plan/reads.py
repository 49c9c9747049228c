"""What a step reads, a token for each of some sequences, and where it lies."""

from __future__ import annotations

from .facts import ModelFacts
from .packed import encoder_share
from .precision import Weights


def read_a_step(facts: ModelFacts, weights: Weights, sequences: int) -> float:
    """Return their bytes: of the experts those that any sequence is routed to, on the average."""
    if facts.experts:
        missed: float = (1 - facts.active_experts / facts.experts) ** sequences
        return weights.read - weights.routed * missed
    if facts.kind == "encoder-decoder":
        return max(0.0, weights.read - weights.stored * encoder_share(facts))
    return weights.read


def beyond(read: float, held: int, none: int) -> float:
    """Return the share of so many bytes, read step by step, that come from memory.

    None where they are no more than `held`, which a processor's caches may hold, all from `none`.
    """
    return min(1.0, max(0.0, (read - held) / (none - held)))
