"""What a prompt moves between its products, where an engine goes operator by operator.

Norms, activations, sums, masks, softmax and what turns heads over multiply nothing; each number
that one of them writes takes as long as moving some bytes. Counted in the graphs that edgeward
writes for ONNX Runtime, in its own profile of MiniLM, DINOv2-small, Whisper tiny.en and
SmolLM2-135M.
"""

from __future__ import annotations

from .facts import ModelFacts

# An encoder's layer: four turns of heads, two sums and two norms of a state; an activation, which
# takes longer than a copy; a mask and a softmax of the scores.
_STATES, _BETWEEN, _SCORES = 8.0, 1.7, 2.0
# A sound's attention is one operator, with no turns nor scores beside it.
_FUSED_STATES = 5.0
# A generator's too; its gate is split, activated and multiplied, its two norms take twice as long.
_WRITING_STATES, _GATED = 4.0, 3.2


def moved_numbers(facts: ModelFacts, tokens: int) -> float:
    """Return how many numbers the operators between products write for one input."""
    if facts.kind == "decoder":
        row = _WRITING_STATES * facts.hidden + _GATED * facts.intermediate
        return facts.layers * tokens * row
    if facts.kind == "encoder-decoder":
        seen = facts.encoder_tokens or tokens
        row = _BETWEEN * facts.intermediate
        if facts.encoder_tokens:
            row += _FUSED_STATES * facts.encoder_hidden
        else:
            row += _STATES * facts.encoder_hidden + _SCORES * facts.heads * seen
        return facts.encoder_layers * seen * row
    row = _STATES * facts.hidden + _BETWEEN * facts.intermediate + _SCORES * facts.heads * tokens
    return facts.layers * tokens * row
